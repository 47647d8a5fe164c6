#!/run/testhost/busybox sh
# PID 1 of the test host: mounts, then the runner.  The host is thrown away after
# one command, so nothing is ever stopped or unmounted.  Static busybox, because
# under emulation starting a dynamic program takes a tenth of a second.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
box=/run/testhost/busybox
mnt() { $box mount -t "$@"; }
mnt proc proc /proc
mnt sysfs sysfs /sys
mnt devtmpfs devtmpfs /dev
$box mkdir -p /dev/pts /dev/shm /run/lock
mnt devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mnt tmpfs -o mode=1777 shm /dev/shm
mnt tmpfs -o mode=1777 tmp /tmp
mnt cgroup2 cgroup2 /sys/fs/cgroup
mnt tracefs tracefs /sys/kernel/tracing
mnt debugfs debugfs /sys/kernel/debug
mnt ext4 /dev/vdb /opt/sampan
[ ! -b /dev/vdd ] || mnt ext4 /dev/vdd /var/lib/sampan/image
$box mount -o remount,rw /
$box mount --make-rshared /  # as systemd does
# The runner waits for these just before the command starts.
$box mkfifo /run/testhost/modules
# By its path: this shell would take busybox's own.
(/usr/sbin/modprobe --all kvm-amd overlay tun loop veth bridge vhost_net vhost_vsock fuse \
	sch_ingress act_mirred cls_matchall cls_u32 >/run/testhost/modules 2>&1) &
$box ln -sf /proc/self/fd /dev/fd
echo "+cpuset +cpu +io +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
$box hostname testhost
$box ip link set lo up
cd /opt/sampan/tree
PYTHONPATH=/run/testhost python3 -B -m tests.testhost.guest.runner --port sampan.job
echo "testhost: runner ended with $?" >/dev/kmsg
$box poweroff -f
