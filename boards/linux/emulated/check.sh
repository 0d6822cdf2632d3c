#!/bin/sh
# Runs in the emulated board at each boot, and tells its console what it saw: "RESULT name ok|failed what", and
# "ANSWER name JSON" for what the host compares. The stage that a boot is at stands in a file.
exec 2>&1
folder=/check
stage=$(cat $folder/stage 2>/dev/null || echo first)
mode=$(cat $folder/mode)

result() { echo "RESULT $1 $2 $3" | tr '\n' ' '; echo; }
# expect NAME COMMAND...: whether a command goes well.
expect() {
    name=$1
    shift
    if said=$("$@" 2>&1); then result "$name" ok; else result "$name" failed "$(echo "$said" | tail -n 5)"; fi
}
# within SECONDS COMMAND...: waits until a command goes well.
within() {
    seconds=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ "$seconds" -gt 0 ] || return 1
        seconds=$((seconds - 1))
        sleep 1
    done
}
url=http://127.0.0.1:8080
healthy() { curl -sf -m 5 $url/health; }
pid() { systemctl show wick --property=MainPID --value; }
is_another() { [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ] && healthy; }
metric() { curl -sf -m 20 $url/metrics | sed -n "s/^$1 //p"; }
is_positive() { [ "$(metric "$1")" -gt 0 ]; }
ask() { curl -s -m 300 $url/v1/chat/completions -d @$folder/request.json; }
# A prompt that nothing was kept of.
ask_new() { curl -s -m 300 -o "$folder/body" -w '%{http_code}' $url/v1/completions -d "{\"prompt\": \"$1\", \"max_tokens\": 4}"; }
is_status() { [ "$(ask_new "$2")" = "$1" ] || { cat "$folder/body"; false; }; }
answer() { echo "ANSWER $1 $(ask)"; }

configure() {
    # Little more memory than the least: most experts are read as they are wanted.
    least=$(wick serve --check --memory 1M /var/lib/wick/models/model.gguf 2>&1 | sed -n 's/.*(\([0-9]*\)K) is the least.*/\1/p')
    sed -i "s|^#memory = .*|memory = \"$((least + 1024))K\"|" /etc/wick/wick.toml
    grep -q '^memory' /etc/wick/wick.toml
}
is_asleep() { ! systemctl is-active -q wick && ! systemctl is-enabled -q wick; }
runs_as_wick() { [ "$(stat -c %U "/proc/$(pid)")" = wick ]; }
# Exposure of 2.0 at most, of 10; told in tenths.
is_confined() { systemd-analyze security --no-pager --threshold=20 wick.service; }
version() { [ "$(dpkg-query -W -f '${Version} ${db:Status-Status}' wick)" = "$(cat $folder/"$1") installed" ]; }
is_configured() { grep -q '^memory' /etc/wick/wick.toml; }

install() {
    dpkg -i $folder/old.deb >$folder/dpkg.log 2>&1
    expect install grep -q 'put a model at' $folder/dpkg.log
    expect nothing-starts-by-itself is_asleep
    mkdir -p /var/lib/wick/models
    echo 'LABEL=model /var/lib/wick/models ext4 ro,nofail 0 0' >>/etc/fstab
    expect model-is-mounted mount /var/lib/wick/models
    expect configure configure
    expect serve--check wick serve --check --config /etc/wick/wick.toml
    wick serve --check --config /etc/wick/wick.toml
    expect enable systemctl enable --now wick
    expect answers within 60 healthy
    expect runs-as-wick runs_as_wick
    answer first
    expect streams-experts is_positive wick_read_bytes
    journalctl -u wick -o cat -p 6 --no-pager | tail -n 3
}

# What the package that is tried says of the board, and how its service is confined.
examine() {
    expect doctor wick doctor /var/lib/wick/models/model.gguf
    wick doctor /var/lib/wick/models/model.gguf
    expect confined is_confined
    systemd-analyze security --no-pager wick.service | tail -n 1
}

kill_nine() {
    sleep 3 # What was read of the prompt is kept when nobody asks.
    before=$(pid)
    kill -9 "$before"
    expect back-after-kill-9 within 30 is_another "$before"
    answer after-kill-9
    expect saved-prefix-is-used is_positive wick_saved_tokens
}

upgrade() {
    # Nobody is there to be asked whether the changed file of settings is kept.
    expect upgrade dpkg --force-confold -i $folder/new.deb
    expect upgraded version new-version
    expect configuration-stays is_configured
    expect runs-after-upgrade within 60 healthy
    answer after-upgrade
}

stop_engine() {
    mkdir -p /run/systemd/system/wick.service.d
    printf '[Service]\nWatchdogSec=8\n' >/run/systemd/system/wick.service.d/watchdog.conf
    systemctl daemon-reload
    systemctl restart wick
    within 60 healthy
    sleep 20
    before=$(pid)
    expect watchdog-is-fed-at-rest [ "$(systemctl show wick --property=NRestarts --value)" = 0 ]
    # The engine's thread alone stands still; all others go on. It is let go when the watchdog has bitten, or nobody would see it die.
    timeout -s KILL 25 strace -o /dev/null -p "$before" -e trace=all -e inject=all:delay_enter=120s &
    expect watchdog-restarts within 60 is_another "$before"
    expect journal-names-the-watchdog sh -c 'journalctl -u wick --no-pager | grep -qi watchdog'
    rm -r /run/systemd/system/wick.service.d
    systemctl daemon-reload
    systemctl restart wick
    expect answers-after-watchdog within 60 healthy
}

fill_disk() {
    dd if=/dev/zero of=/fill bs=1M 2>/dev/null
    expect answers-on-a-full-disk is_status 200 'the disk is full now'
    expect stays-up-on-a-full-disk healthy
    rm /fill
    answer after-full-disk
}

lose_device() {
    before=$(pid)
    echo 1 >/sys/block/sda/device/delete
    expect lost-device-is-an-error is_status 500 'where has it gone'
    cat $folder/body
    echo
    expect error-names-the-file grep -q model.gguf $folder/body
    expect stays-up-without-device [ "$(pid)" = "$before" ]
    for host in /sys/class/scsi_host/*/scan; do echo '- - -' >"$host"; done
    sleep 2
    umount -l /var/lib/wick/models
    expect device-is-back mount /var/lib/wick/models
    expect recovers within 30 is_status 200 'here it is again'
    expect recovers-without-restart [ "$(pid)" = "$before" ]
    answer after-lost-device
}

read_only_root() {
    systemctl stop wick
    # As wherever a root is read-only: systemd itself needs these.
    for place in /tmp /var/tmp; do mount -t tmpfs tmpfs $place; done
    expect root-is-read-only mount -o remount,ro /
    systemctl start wick
    expect answers-with-read-only-root within 60 healthy
    answer read-only-root
    journalctl -u wick -n 12 --no-pager
    mount -o remount,rw /
}

# notes N: the lines of the N-th block of commands of the archive's notes, which are carried out as they stand.
notes() {
    awk -v wanted="$1" '/^    / { if (!inside) block++; inside = 1; if (block == wanted) print; next } { inside = 0 }' INSTALL |
        sed 's|MODEL.gguf|/check/model.gguf|'
}
follow() { notes "$1" >/tmp/notes && [ -s /tmp/notes ] && sh -e /tmp/notes; }
is_of_root() { [ "$(stat -c %U /usr /etc /usr/bin/wick /etc/wick/wick.toml | sort -u)" = root ]; }

# The archive for systems without Debian's packages, unpacked by somebody who is not root.
archive() {
    cp /var/lib/wick/models/model.gguf $folder/model.gguf
    expect model-is-unmounted umount /var/lib/wick/models
    rm -rf /var/lib/wick
    mkdir /archive
    tar -C /archive -xzf $folder/wick.tar.gz
    chown -R nobody /archive
    chmod 700 /archive/usr /archive/etc
    cd /archive || exit
    expect archive-installs follow 1
    expect archive-answers within 60 healthy
    expect archive-gives-nothing-away is_of_root
    answer archive
    expect archive-configure configure
    before=$(pid)
    expect archive-upgrades follow 2
    expect archive-runs-after-upgrade within 60 is_another "$before"
    expect archive-keeps-settings is_configured
    answer archive-after-upgrade
    expect archive-goes follow 3
    expect archive-leaves-no-unit sh -c '! systemctl cat wick && [ -z "$(find /usr -name "*wick*")" ]'
    cd /
}

if [ "$stage" = first ]; then
    install
    kill_nine
    # The package that is upgraded from may know less.
    if [ "$mode" = long ]; then upgrade; fi
    examine
    if [ "$mode" = long ]; then
        stop_engine
        fill_disk
        lose_device
        read_only_root
        echo second >$folder/stage
        sync
        systemctl reboot
        exit
    fi
else
    expect back-after-reboot within 120 healthy
    answer after-reboot
    expect remove dpkg -r wick
    expect configuration-stays-after-remove is_configured
    expect purge dpkg -P wick
    expect nothing-is-left sh -c '[ ! -e /etc/wick ] && [ ! -e /var/cache/wick ]'
    archive
fi
journalctl -u wick --no-pager | tail -n 40
echo "RESULT end ok"
systemctl poweroff
