#!/bin/sh
# The inside of a host that is this machine: runs as PID 1 of new namespaces and
# lays the disks out as the emulated host has them.  Everything mounted here goes
# with the mount namespace; the loop devices free themselves.
set -eu
root=$1 base=$2 tree=$3 guest=$4 puts=$5 package=$6 cgroup=$7 channel=$8
mount -o loop "$base" "$root"
mount -o loop "$tree" "$root/opt/sampan"
[ -z "$guest" ] || mount -o loop "$guest" "$root/var/lib/sampan/image"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
if [ -n "$cgroup" ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	# This process leaves the top, so that controllers can be handed down.
	mkdir "$root/sys/fs/cgroup/testhost"
	echo 1 >"$root/sys/fs/cgroup/testhost/cgroup.procs"
	for controller in $(cat "$root/sys/fs/cgroup/cgroup.controllers"); do
		echo "+$controller" >"$root/sys/fs/cgroup/cgroup.subtree_control" ||
			echo "testhost: cgroup controller $controller cannot be handed down" >&2
	done
fi
mkdir -p "$root/run/lock" "$root/run/testhost/tests/testhost"
mount --bind "$package" "$root/run/testhost/tests/testhost"
mount --make-rshared "$root"  # as systemd does
touch "$root/run/testhost/puts.tar"
mount --bind "$puts" "$root/run/testhost/puts.tar"
: >"$root/run/testhost/modules"
hostname testhost
"$root/usr/bin/busybox" ip link set lo up
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/run/testhost \
	chroot "$root" env -C /opt/sampan/tree \
	python3 -B -m tests.testhost.guest.runner --fd "$channel"
