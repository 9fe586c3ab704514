# The life of the Debian package on a machine that is this one, seen through an overlay: what it writes is gone afterwards.
#
#   unshare --mount --pid --fork --kill-child bash package_life.sh FOLDER PACKAGE NEXT-PACKAGE
#
# FOLDER: empty, on a disk (the state lies there).  Ends with "life: done".
set -eu -o pipefail
folder=$1 package=$2 next=$3
root=$folder/root

step() { echo "life: $*"; }
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
as() { local user=$1; shift; inside setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"; }

mount --make-rprivate /
mkdir "$root" "$folder/scratch" "$folder/state"
mount -t tmpfs tmpfs "$folder/scratch"
mkdir "$folder"/scratch/{upper,work}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/scratch/upper,workdir=$folder/scratch/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/var/lib/coffer"
mount --bind "$folder/state" "$root/var/lib/coffer"	# overlays and tmpfs are no place for a store
cp "$package" "$root/run/first.deb"
cp "$next" "$root/run/next.deb"

step install
inside dpkg -i /run/first.deb
[ "$(stat -c %a "$root/var/lib/coffer")" = 711 ]
for user in life_admin life_custodian life_auditor life_alice; do inside useradd -m "$user"; done
for role in admin custodian auditor; do inside usermod -a -G coffer-$role life_$role; done

step first start
inside coffer up
as life_alice coffer client add acme --name Acme --email a@acme.example && { echo "a consultant may add clients"; exit 1; }
as life_admin coffer client add acme --name Acme --email a@acme.example
as life_admin coffer grant acme life_alice --purpose consulting --rights rw
as life_admin coffer grant acme life_admin --purpose consulting --rights rw && { echo "an admin may grant to himself"; exit 1; }
mkdir "$root/home/life_alice/acme"
inside chown life_alice: /home/life_alice/acme

work() { # WORD: what was there is read, WORD is added
	as life_alice coffer mount acme --purpose consulting /home/life_alice/acme >/dev/null
	as life_alice sh -c "cat /home/life_alice/acme/book 2>/dev/null; echo $1 >>/home/life_alice/acme/book"
	as life_alice coffer unmount /home/life_alice/acme >/dev/null
}
[ "$(work one)" = "" ]
inside coffer doctor --json >"$folder/doctor.json" || true
inside coffer down

step upgrade
inside dpkg -i /run/next.deb
inside coffer up
[ "$(work two)" = one ]

step remove while it runs
inside dpkg -r coffer
! inside test -e /usr/bin/coffer
! ls "$root"/proc/[0-9]*/exe -l 2>/dev/null | grep '/coffer-[a-z]*\( (deleted)\)\?$' || { echo "a daemon of the removed package runs"; exit 1; }
[ -s "$folder/state/keyd/slot/root.slot" ] && [ -s "$folder/state/ledger/ledger.db" ]

step install again
inside dpkg -i /run/first.deb
inside coffer up
[ "$(work three)" = $'one\ntwo' ]
as life_auditor coffer log --client acme --json >"$folder/log.json"
as life_auditor coffer log verify
inside coffer down

step purge
inside dpkg -P coffer 2>&1 | grep "/var/lib/coffer stays"
[ -s "$folder/state/keyd/slot/root.slot" ] && [ -s "$folder/state/ledger/ledger.db" ] && [ -d "$folder/state/store" ]
left=$(cd "$root" && find usr etc -newer run/first.deb -path '*coffer*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
step done
