
# What the parser does not know: the names of sandboxes and containers, and the completions of the
# command that a verb runs.
_garth_more() {
    local verb= word rest=0 i
    _garth "$@"
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$verb $word" in
        @RUNS@)
            if declare -F _command_offset >/dev/null; then
                _command_offset $((i + 1))
            elif ((i + 1 == COMP_CWORD)); then
                COMPREPLY=($(compgen -c -- "$2"))
            fi
            return
            ;;
        @VALUED@)
            ((i++))
            [[ ${COMP_WORDS[i]} == = ]] && ((i++))
            ;;
        *" -"*) ;;
        " "*) verb=$word ;;
        *) rest=1 ;;
        esac
    done
    ((rest || i != COMP_CWORD)) && return
    case "$verb $2" in
    *" -"*) ;;
    @NAMED@)
        COMPREPLY=($(compgen -W "$({ garth ps --quiet; garth list --quiet; } 2>/dev/null)" -- "$2"))
        ;;
    esac
}
complete -F _garth_more -o bashdefault -o default garth
