//! A root file system for Linux guests: busybox, and an init script that ends in a shell.

use xenlike_tests::cpio::{Archive, Entry};

/// The init script. Tests wait for its first line on the console.
pub const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root /etc
/bin/busybox --install -s /bin
/bin/busybox ln -s /bin /sbin
export PATH=/bin HOME=/root TERM=${TERM:-vt100} PS1='# '
# What `poweroff` and `reboot` send; the kernel runs them when the toolstack asks, and that may be early.
trap 'sync; poweroff -f' USR1 USR2
trap 'sync; reboot -f' TERM
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts 2>/dev/null
hostname guest
if [ -d /modules ]; then
  hostname dom0
  for module in /modules/*; do insmod "$module"; done
  mount -t xenfs xen /proc/xen
fi
# Devices are found while the shell is there already: only errors may break into its lines.
dmesg -n 4
run=shell
root=
toolstack=on
for word in $(cat /proc/cmdline); do
  case "$word" in
    xenlike.run=*) run=${word#xenlike.run=} ;;
    xenlike.root=*) root=${word#xenlike.root=} ;;
    xenlike.toolstack=*) toolstack=${word#xenlike.toolstack=} ;;
  esac
done
echo "init: $(uname -srm), $(grep -c ^processor /proc/cpuinfo) CPU(s), $(awk '/MemTotal/ { print $2 }' /proc/meminfo) kB, $(cat /sys/hypervisor/type 2>/dev/null || echo no hypervisor)"
if [ -n "$root" ]; then
  # A disk's own root goes on, with the toolstack of today.
  tries=0
  until [ -b "$root" ] || [ $tries = 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  mkdir -p /mnt
  if mount -t ext4 "$root" /mnt; then
    [ ! -x /bin/xenlike ] || cp /bin/xenlike /mnt/usr/local/bin/
    umount /proc/xen /dev/pts /proc /sys
    umount -l /dev
    exec switch_root /mnt /sbin/init
  fi
fi
case "$run" in
  poweroff) poweroff -f ;;
  reboot) reboot -f ;;
esac
# In a Dom0: Debian's xl and its daemons, unless they are not wanted. Of two releases the older, which was appended.
tools=$(echo /usr/lib/xen-*/bin | sed 's/ .*//')
if [ "$toolstack" = on ] && [ -x $tools/xenstored ] && [ -e /proc/xen/privcmd ]; then
  mkdir -p /run/xen /run/lock /var/lib/xenstored /var/lib/xen /var/log/xen/console /etc/xen
  ln -s /run /var/run
  ln -s /run/lock /var/lock
  ln -sf /proc/self/fd /dev/fd
  ln -sf /proc/self/fd/0 /dev/stdin
  export PATH=$PATH:$tools LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu PS1='dom0# '
  # Dom0's memory is what the hypervisor's command line says.
  echo 'autoballoon="off"' > /etc/xen/xl.conf
  xenstored --pid-file /run/xenstored.pid
  xen-init-dom0
  xenconsoled --pid-file=/run/xenconsoled.pid --log=guest
fi
console=/dev/$(sed 's/.* //' /sys/class/tty/console/active 2>/dev/null)
[ -c "$console" ] || console=/dev/console
cd /root
# A session of its own on the real terminal gives the shell job control. Leaving it powers off.
setsid sh -c "exec <$console >$console 2>&1; [ ! -f run ] || sh ./run; exec sh -i" &
wait $!
sync
poweroff -f
"#;

/// The archive, in which `busybox` provides every program.
pub fn image(busybox: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    base(&mut archive, busybox);
    archive.add("init", &Entry::Program(INIT.as_bytes()));
    archive.finish()
}

/// Adds the folders, nodes and programs with which every root file system here begins.
pub fn base(archive: &mut Archive, busybox: &[u8]) {
    for folder in ["bin", "dev", "proc", "sys", "tmp", "root", "etc"] {
        archive.add(folder, &Entry::Directory);
    }
    archive.add("dev/console", &Entry::CharDevice(5, 1));
    archive.add("dev/null", &Entry::CharDevice(1, 3));
    archive.add("bin/busybox", &Entry::Program(busybox));
    archive.add("bin/sh", &Entry::Link("busybox"));
}
