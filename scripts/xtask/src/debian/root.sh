#!/bin/sh
# Makes a disk image with Debian's root file system: root.sh TREE PACKAGES MODULES IMAGE. As root: files are to be root's.
set -eu
tree=$1 packages=$2 modules=$3 image=$4

rm -rf "$tree"
mkdir -p "$tree/var/lib/dpkg" "$tree/var/cache/apt/archives"
# The packages' programs have to be there before one of them can be installed: base-files first, whose links the others
# go through.
for package in "$packages"/base-files_*.deb "$packages"/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -C "$tree" -xf -
done
: > "$tree/var/lib/dpkg/status"
cp "$packages"/*.deb "$tree/var/cache/apt/archives/"
# No daemons are started while it is made.
printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
inside() {
  chroot "$tree" env -i PATH=/usr/sbin:/usr/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"
}
inside sh -c 'dpkg --force-depends --force-unsafe-io --install /var/cache/apt/archives/*.deb'
rm "$tree/usr/sbin/policy-rc.d" "$tree"/var/cache/apt/archives/*.deb

mkdir -p "$tree/usr/lib/modules"
cp -a "$modules"/* "$tree/usr/lib/modules/"
for version in "$modules"/*; do
  inside depmod "$(basename "$version")"
done

echo dom0 > "$tree/etc/hostname"
: > "$tree/etc/machine-id"
printf 'LABEL=root / ext4 defaults 0 1\nxenfs /proc/xen xenfs defaults,nofail 0 0\n' > "$tree/etc/fstab"
printf '%s\n' xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc > "$tree/etc/modules-load.d/xen.conf"
# A machine to try things on: root logs in without a password, on its console.
inside passwd --delete root

# Emulated, all takes longer than systemd expects.
mkdir -p "$tree/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n' \
  > "$tree/etc/systemd/system.conf.d/slow.conf"
# Nothing is left for systemd to bring up to date at the first boot.
touch "$tree/etc/.updated" "$tree/var/.updated"

rm -f "$image"
truncate --size 1G "$image"
mke2fs -q -t ext4 -L root -d "$tree" "$image"
rm -rf "$tree"
