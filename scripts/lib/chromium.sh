# shellcheck shell=bash
# Chromium, which tests of the live page start themselves.

# CHROMIUM_BIN, else the one that is installed, else Debian's.
find_chromium() {
    if [[ -z ${CHROMIUM_BIN:-} ]]; then
        CHROMIUM_BIN=$(installed_chromium) || apt_install chromium ||
            die "Chromium is needed: install it (Debian: sudo apt-get install chromium), or name it with CHROMIUM_BIN"
        CHROMIUM_BIN=${CHROMIUM_BIN:-$(installed_chromium)} || die "Chromium was installed and cannot be found"
    fi
    [[ -x $CHROMIUM_BIN ]] || die "CHROMIUM_BIN=$CHROMIUM_BIN is no program"
}

installed_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
