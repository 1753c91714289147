
_garth_names() {
    local -a names
    names=(${(f)"$({ garth ps --quiet; garth list --quiet; } 2>/dev/null)"})
    compadd -a names
}
