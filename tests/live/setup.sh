#!/bin/bash
# Installs the peers the live tests speak with (Debian 12 or later; root). Nothing is started or left running.
# Exim comes unpacked beside the system, because its package and Postfix's refuse to be installed together.
set -euo pipefail

PACKAGES=(postfix stunnel4 swaks libnet-ssleay-perl libsasl2-modules curl msmtp dovecot-core dovecot-lmtpd knot knot-dnsutils unbound strace libeatmydata1 etcd-server
    systemd slapd ldap-utils postgresql mariadb-server-core mariadb-client-core)
EXIM=/var/cache/waypost-live/exim

if [ "$(id -u)" -ne 0 ]; then
    echo "tests/live/setup.sh installs packages and needs root: sudo tests/live/setup.sh" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive

# Packages must not start their services: on this machine they are peers in tests, with configurations of their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi

missing() { ! dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Where Node.js came from elsewhere, it has its npm with it, which Debian's would not suffer.
if ! command -v npm >/dev/null; then PACKAGES+=(nodejs npm); fi

# A browser for the dashboard, and what judges the alert rules.
PACKAGES+=(chromium fonts-dejavu-core prometheus)

to_install=()
for package in "${PACKAGES[@]}"; do
    if missing "$package"; then to_install+=("$package"); fi
done
if [ ${#to_install[@]} -gt 0 ] || [ ! -x "$EXIM/usr/sbin/exim4" ] || [ ! -e "$EXIM/etc/exim4/exim4.conf.template" ]; then
    echo "live: apt-get update"
    apt-get update -qq
fi
if [ ${#to_install[@]} -gt 0 ]; then
    echo "live: installing ${to_install[*]}"
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get install -y -qq --no-install-recommends "${to_install[@]}" </dev/null >/dev/null
fi

if [ ! -x "$EXIM/usr/sbin/exim4" ]; then
    echo "live: unpacking exim4-daemon-light into $EXIM"
    mkdir -p "$EXIM"
    libraries=$(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        exim4-daemon-light | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
    # shellcheck disable=SC2086 # one word a library
    apt-get install -y -qq --no-install-recommends $libraries </dev/null >/dev/null
    (cd "$EXIM" && apt-get download -qq -o APT::Sandbox::User=root exim4-daemon-light)
    dpkg -x "$EXIM"/exim4-daemon-light_*.deb "$EXIM"
    rm "$EXIM"/exim4-daemon-light_*.deb
fi
if [ ! -x "$EXIM/usr/sbin/exim_dumpdb" ]; then
    # bench/faults.py reads Exim's retry times with it.
    echo "live: unpacking exim4-base into $EXIM"
    (cd "$EXIM" && apt-get download -qq -o APT::Sandbox::User=root exim4-base)
    dpkg -x "$EXIM"/exim4-base_*.deb "$EXIM"
    rm "$EXIM"/exim4-base_*.deb
fi
if [ ! -e "$EXIM/etc/exim4/exim4.conf.template" ]; then
    # What Debian configures Exim with: `waypost import exim` has to make the same of it as of the answers it is made from.
    echo "live: unpacking exim4-config into $EXIM"
    (cd "$EXIM" && apt-get download -qq -o APT::Sandbox::User=root exim4-config)
    dpkg -x "$EXIM"/exim4-config_*.deb "$EXIM"
    rm "$EXIM"/exim4-config_*.deb
fi
if ! id Debian-exim >/dev/null 2>&1; then
    # The name is compiled into the binary.
    useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin Debian-exim
fi

SSLYZE=/var/cache/waypost-live/sslyze
if [ ! -x "$SSLYZE/bin/sslyze" ]; then
    # A scanner of TLS, with its own version of each library.
    echo "live: installing sslyze into $SSLYZE"
    python3 -m venv "$SSLYZE"
    "$SSLYZE/bin/python" -m pip install --quiet --disable-pip-version-check 'sslyze>=6.2'
fi

NODE=/var/cache/waypost-live/node
if [ ! -d "$NODE/node_modules/nodemailer" ]; then
    echo "live: installing nodemailer into $NODE"
    mkdir -p "$NODE"
    (cd "$NODE" && npm install --silent --no-audit --no-fund nodemailer@6 >/dev/null)
fi

PATRONI=/var/cache/waypost-live/patroni
if [ ! -x "$PATRONI/bin/patroni" ]; then
    # What fails PostgreSQL over; its servers are those of the wheel that `make .venv/.dev-ready` installs.
    echo "live: installing patroni into $PATRONI"
    # Debian's own Python: the servers run as `nobody`, who may not look into every directory a Python lies in.
    /usr/bin/python3 -m venv "$PATRONI"
    "$PATRONI/bin/python" -m pip install --quiet --disable-pip-version-check 'patroni[etcd3]>=4' 'psycopg[binary]>=3.1'
fi

echo "live: all peers are there"
