complete -c garth -n "__fish_garth_using_subcommand @NAMED@" -f -a "(begin; garth ps --quiet; garth list --quiet; end 2>/dev/null)"
complete -c garth -n "__fish_garth_using_subcommand wrap" -x -a "(__fish_complete_subcommand --fcs-skip=2)"
