# bash completion for rcr: what may come next is asked of rcr itself; files where it knows nothing.
_rcr() {
    local cur=${COMP_WORDS[COMP_CWORD]} cword=$COMP_CWORD words=("${COMP_WORDS[@]}")
    # Of bash-completion: keeps NAME:TAG and --flag=value in one word.
    declare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n =: cur words cword
    mapfile -t COMPREPLY < <(rcr __complete -- "${words[@]:1:cword}" 2>/dev/null | cut -f1)
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
    return 0
}
complete -o default -F _rcr rcr
