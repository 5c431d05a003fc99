#!/bin/sh
# Installs what the tests with real container engines need: Debian's packages, where this is root and apt is there.
# It changes nothing and is fast when all is present. One line says what was left out and why; where CI is "true", a
# tool that is missing at the end is a failure.
set -eu

# program:package
tools="
dockerd:docker.io
docker:docker.io
docker-compose:docker-compose
containerd:containerd
ctr:containerd
runc:runc
podman:podman
skopeo:skopeo
buildah:buildah
ip:iproute2
tc:iproute2
bridge:iproute2
iptables:iptables
mount:mount
strace:strace
shellcheck:shellcheck
"

# Daemons and network tools live where a user's PATH may not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# missing prints the programs, or with "packages" the packages, that are not here.
missing() {
	for tool in $tools; do
		if ! command -v "${tool%%:*}" >/dev/null 2>&1; then
			if [ "${1:-}" = packages ]; then echo "${tool#*:}"; else echo "${tool%%:*}"; fi
		fi
	done | sort -u | tr '\n' ' '
}

install_packages() {
	# Installing must not start a daemon: the tests start their own. A policy that is there already is left alone.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		trap 'exit 1' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2046 # one word a package
	apt-get update -qq &&
		apt-get install -y -qq --no-install-recommends $(missing packages)
}

if [ -z "$(missing)" ]; then
	echo "setup-test-tools: everything is here"
	exit 0
fi

why=
if [ "$(id -u)" -ne 0 ]; then
	why="only root can install them"
elif ! command -v apt-get >/dev/null 2>&1; then
	why="there is no apt-get"
else
	log=$(mktemp)
	if ! install_packages >"$log" 2>&1; then
		why="apt-get could not install them: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")"
	fi
	rm -f "$log"
fi

left=$(missing)
if [ -z "$left" ]; then
	echo "setup-test-tools: installed what was missing"
	exit 0
fi
echo "setup-test-tools: left out ${left% }: ${why:-the packages do not have them}; tests that need them are skipped" >&2
if [ "${CI:-}" = true ]; then
	exit 1
fi
