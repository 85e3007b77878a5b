#compdef rcr
# zsh completion for rcr: what may come next is asked of rcr itself; files where it knows nothing.
_rcr() {
    local line
    local -a found
    for line in "${(@f)$(rcr __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#found )); then
        _describe rcr found
    else
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _rcr "$@"
else
    compdef _rcr rcr
fi
