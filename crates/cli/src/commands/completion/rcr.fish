# fish completion for rcr: what may come next is asked of rcr itself; files where it knows nothing.
function __rcr_complete
    set -l found (rcr __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c rcr -f -a '(__rcr_complete)'
