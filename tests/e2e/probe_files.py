"""What programs expect of a file system, one line of result each.  Runs inside containers."""

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
import threading

HERE = sys.argv[1]
PAGE = mmap.PAGESIZE


def write(name, data=b"data"):
    with open(name, "wb") as file:
        file.write(data)
    return name


def read(name):
    with open(name, "rb") as file:
        return file.read()


def errno_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "no error"


def check_rename():
    os.rename(write("r1", b"1"), write("r2", b"2"))
    assert read("r2") == b"1"
    assert not os.path.exists("r1")
    libc = ctypes.CDLL(None, use_errno=True)
    write("x1", b"1"), write("x2", b"2")
    assert libc.renameat2(-100, b"x1", -100, b"x2", 2) == 0, "RENAME_EXCHANGE"
    assert read("x1") == b"2"
    assert libc.renameat2(-100, b"x1", -100, b"x2", 1) == -1
    assert ctypes.get_errno() == errno.EEXIST
    os.makedirs("rd/a")
    os.makedirs("rd2/full")
    return errno_of(os.rename, "rd", "rd2"), errno_of(os.rename, "rd", "rd/a/b")


def check_hard_links():
    os.link(write("l1"), "l2")
    assert os.stat("l1").st_nlink == os.stat("l2").st_nlink == 2
    assert os.stat("l1").st_ino == os.stat("l2").st_ino
    os.unlink("l1")
    assert os.stat("l2").st_nlink == 1
    assert read("l2") == b"data"


def check_symlinks():
    os.symlink("target/not/there", "s1")
    assert os.readlink("s1") == "target/not/there"
    os.symlink("s3", "s2")
    os.symlink("s2", "s3")
    os.symlink("a" * 4000, "long")
    assert len(os.readlink("long")) == 4000
    return errno_of(open, "s1"), errno_of(open, "s2")


def check_xattrs():
    write("xa")
    os.setxattr("xa", "user.name", b"value\0binary")
    assert os.getxattr("xa", "user.name") == b"value\0binary"
    assert "user.name" in os.listxattr("xa")
    os.setxattr("xa", "user.big", b"x" * 2000)
    os.removexattr("xa", "user.name")
    return errno_of(os.getxattr, "xa", "user.name"), errno_of(
        os.setxattr, "xa", "user.big", b"", os.XATTR_CREATE
    )


def check_holes():
    with open("hole", "wb") as file:
        file.seek(16 << 20)
        file.write(b"end")
    info = os.stat("hole")
    assert info.st_size == (16 << 20) + 3
    assert info.st_blocks * 512 < 1 << 20
    fd = os.open("hole", os.O_RDWR)
    os.posix_fallocate(fd, 0, 1 << 20)
    libc = ctypes.CDLL(None, use_errno=True)
    off = ctypes.c_long
    assert libc.fallocate(fd, 3, off(0), off(1 << 20)) == 0, "PUNCH_HOLE"
    assert os.lseek(fd, 16 << 20, os.SEEK_DATA) == 16 << 20
    assert os.lseek(fd, 16 << 20, os.SEEK_HOLE) == (16 << 20) + 3
    assert os.pread(fd, 3, 16 << 20) == b"end"
    os.ftruncate(fd, 5)
    os.close(fd)
    assert read("hole") == b"\0" * 5


def check_mmap_both_ways():
    write("map", b"a" * PAGE * 2)
    with open("map", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[PAGE] = ord("b")
        view.flush()
        assert os.pread(file.fileno(), 1, PAGE) == b"b"
        os.pwrite(file.fileno(), b"c", 1)
        assert view[1] == ord("c")
    with open("map", "rb") as mapped:
        private = mmap.mmap(mapped.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        private[0] = ord("z")
        private.close()
    assert read("map")[:2] == b"ac"
    assert read("map")[PAGE : PAGE + 1] == b"b"


def check_tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"unnamed")
    assert os.fstat(fd).st_nlink == 0
    # With a descriptor it is linkat(AT_SYMLINK_FOLLOW), else Python calls link().
    directory = os.open(".", os.O_DIRECTORY)
    os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=directory)
    os.close(directory)
    os.close(fd)
    assert read("named") == b"unnamed"


def check_locks():
    with open(write("lock"), "r+b") as one, open("lock", "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("two exclusive flocks")
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_EX)
        code = "import fcntl; fcntl.lockf(open('lock', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert b"BlockingIOError" in done.stderr


def check_long_names():
    name = "n" * 255
    write(name)
    assert name in os.listdir(".")
    os.unlink(name)
    odd = b"odd\xff\n\t'\"\\name"
    write(odd)
    assert odd in os.listdir(b".")
    return errno_of(write, "n" * 256)


def check_deleted_but_open():
    with open(write("gone"), "r+b") as file:
        os.unlink("gone")
        file.write(b"still")
        file.flush()
        file.seek(0)
        assert file.read() == b"still"
        assert os.fstat(file.fileno()).st_nlink == 0
        os.fchmod(file.fileno(), 0o600)
        os.ftruncate(file.fileno(), 2)
        assert os.fstat(file.fileno()).st_size == 2


def check_permissions_as_another_user():
    os.mkdir("private", 0o700)
    write("private/secret"), write("closed")
    os.chmod("closed", 0o600)
    os.mkdir("open", 0o1777)
    os.chmod("open", 0o1777)
    write("open/root-owned")
    child = os.fork()
    if child == 0:
        os.setgroups([50])
        os.setgid(1000)
        os.setuid(1000)
        results = [
            errno_of(os.listdir, "private"),
            errno_of(open, "closed"),
            errno_of(os.unlink, "open/root-owned"),
            errno_of(os.chmod, "closed", 0o777),
        ]
        write("open/mine")
        ok = results == ["EACCES", "EACCES", "EPERM", "EPERM"]
        os._exit(0 if ok and os.stat("open/mine").st_uid == 1000 else 1)
    assert os.waitpid(child, 0)[1] == 0
    info = os.stat("open/mine")
    return info.st_uid, info.st_gid


def check_modes_and_owners():
    write("mode")
    os.chown("mode", 12, 34)
    os.chmod("mode", 0o6755)
    info = os.stat("mode")
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (12, 34, 0o6755)
    os.chown("mode", 13, -1)
    after_chown = stat.S_IMODE(os.stat("mode").st_mode)
    os.mkdir("sgid")
    os.chown("sgid", 0, 50)
    os.chmod("sgid", 0o2775)
    write("sgid/file")
    os.mkdir("sgid/dir")
    old = os.umask(0o027)
    write("umasked")
    os.umask(old)
    return (
        after_chown,
        os.stat("sgid/file").st_gid,
        os.stat("sgid/dir").st_gid,
        oct(os.stat("sgid/dir").st_mode),
        oct(os.stat("umasked").st_mode),
    )


def check_times():
    write("time")
    os.utime("time", ns=(1_000_000_001, 2_000_000_002))
    info = os.stat("time")
    assert (info.st_atime_ns, info.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    os.symlink("time", "timelink")
    os.utime("timelink", ns=(3, 4), follow_symlinks=False)
    assert os.stat("time").st_mtime_ns == 2_000_000_002
    before = os.stat("time").st_ctime_ns
    os.chmod("time", 0o600)
    assert os.stat("time").st_ctime_ns >= before


def check_special_files():
    os.mkfifo("fifo")
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(read("fifo")))
    reader.start()
    write("fifo", b"through")
    reader.join()
    assert seen == [b"through"]
    import socket

    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("sock")
        server.listen()
        client.connect("sock")
    assert stat.S_ISSOCK(os.stat("sock").st_mode)


def check_directories():
    os.makedirs("dir", exist_ok=True)
    os.makedirs("dir", exist_ok=True)
    os.chdir("dir")
    for i in range(500):  # of long names: more than one answer's worth
        write(f"{i:0200}")
    with os.scandir(".") as entries:  # deleting while reading loses none
        for entry in entries:
            os.unlink(entry.name)
    assert os.listdir(".") == []
    os.chdir("..")
    return errno_of(os.rmdir, "."), errno_of(os.mkdir, "dir"), errno_of(os.unlink, "dir")


def check_append_and_sync():
    with open("app", "ab") as one, open("app", "ab") as two:
        for _ in range(100):
            one.write(b"1")
            one.flush()
            two.write(b"2")
            two.flush()
        os.fsync(one.fileno())
        os.fdatasync(two.fileno())
    assert len(read("app")) == 200
    os.sync()
    fd = os.open("app", os.O_RDWR)
    os.copy_file_range(fd, os.open("copy", os.O_CREAT | os.O_RDWR), 200)
    os.sendfile(os.open("sent", os.O_CREAT | os.O_WRONLY), fd, 0, 200)
    assert read("copy") == read("sent") == read("app")


def check_statfs():
    info = os.statvfs(".")
    return info.f_namemax, info.f_blocks > 0, info.f_bavail > 0


os.makedirs(HERE)
os.chdir(HERE)
for name, check in sorted(globals().items()):
    if not name.startswith("check_"):
        continue
    os.mkdir(name)
    os.chdir(name)
    try:
        print(name, check())
    except Exception as error:
        print(name, "FAILED", type(error).__name__, error)
    os.chdir(HERE)
subprocess.run(["rm", "-rf", HERE], check=True)
print("removed", not os.path.exists(HERE))
