#!/bin/sh
# Unpacks syslog-ng into a folder, without installing it: its package and rsyslog's exclude each other.
#
#   tests/peers/unpack-syslog-ng.sh FOLDER
#   export LD_LIBRARY_PATH=$(find FOLDER -name 'lib*.so*' -printf '%h\n' | sort -u | paste -sd:)
#   FOLDER/usr/sbin/syslog-ng --module-path="$(echo FOLDER/usr/lib/syslog-ng/[0-9]*)" ...
#   SYSLOGNG_PREFIX=FOLDER/usr FOLDER/usr/bin/loggen ...
#
# Prints nothing but errors.
set -eu

folder=${1:?a folder is expected}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT

# What it is linked with and Debian or Ubuntu may not have installed; not all of these exist in each of their releases.
wanted=syslog-ng-core
for library in libivykis0 libivykis0t64 libnet1 libjson-c5 libwrap0 libpcre3 libpcre2-8-0 libglib2.0-0 libglib2.0-0t64; do
    if apt-cache show "$library" >/dev/null 2>&1; then
        wanted="$wanted $library"
    fi
done

# apt drops its rights to a user that cannot write to a private folder, and warns of it: the folder is opened for it.
chmod 755 "$downloads"
if [ "$(id -u)" = 0 ] && id _apt >/dev/null 2>&1; then
    chown _apt "$downloads"
fi
# shellcheck disable=SC2086 # a list of names
(cd "$downloads" && apt-get -qq download $wanted >/dev/null)
for package in "$downloads"/*.deb; do
    dpkg -x "$package" "$folder"
done
test -x "$folder/usr/sbin/syslog-ng"
test -x "$folder/usr/bin/loggen"
