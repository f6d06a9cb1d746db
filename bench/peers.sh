#!/bin/bash
# Relays that only bench.relay measures (`--with opensmtpd`, `--with haraka`), beside those of tests/live/setup.sh. As root.
# OpenSMTPD is unpacked and not installed: Debian lets no second mail server in beside Postfix.
set -euo pipefail
cache=/var/cache/waypost-live
export DEBIAN_FRONTEND=noninteractive

if [ ! -x "$cache/opensmtpd/usr/sbin/smtpd" ]; then
    echo "bench: unpacking opensmtpd into $cache/opensmtpd"
    mkdir -p "$cache/opensmtpd" /var/lib/opensmtpd/empty
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends libevent-2.1-7 >/dev/null
    (cd "$cache/opensmtpd" && apt-get download -qq -o APT::Sandbox::User=root opensmtpd)
    dpkg -x "$cache"/opensmtpd/opensmtpd_*.deb "$cache/opensmtpd"
    rm "$cache"/opensmtpd/opensmtpd_*.deb
fi
for user in opensmtpd opensmtpq; do
    id "$user" >/dev/null 2>&1 ||
        useradd --system --user-group --home-dir /var/lib/opensmtpd/empty --no-create-home --shell /usr/sbin/nologin "$user"
done
if [ ! -x "$cache/haraka/node_modules/.bin/haraka" ] && command -v npm >/dev/null; then
    echo "bench: installing Haraka into $cache/haraka"
    npm install --silent --prefix "$cache/haraka" Haraka
fi
