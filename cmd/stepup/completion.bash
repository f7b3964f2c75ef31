# Completion of stepup for bash. In ~/.bashrc: eval "$(stepup completion bash)"
_stepup() {
	local IFS=$'\n' left=$COMP_LINE words=() word gap whole answer cur=${COMP_WORDS[COMP_CWORD]}
	# bash also splits at = and at colons: a piece without a space before it belongs to the word before.
	for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
		gap=${left%%"$word"*} left=${left#*"$word"}
		if [[ -n $word && -z $gap && ${#words[@]} -gt 0 ]]; then
			words[${#words[@]} - 1]+=$word
		else
			words+=("$word")
		fi
	done
	whole=${words[${#words[@]} - 1]}
	[[ $cur == '=' ]] && cur=
	words=("${words[@]//[\\\'\"]/}") # without quotes; nothing is ever evaluated
	answer=$("${1/#\~/$HOME}" __complete -- "${words[@]:1}" 2>/dev/null)
	COMPREPLY=()
	if [[ $answer == ':files' ]]; then
		compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$cur"))
		return
	fi
	while read -r word; do
		word=${word%%$'\t'*}
		[[ -n $word ]] && COMPREPLY+=("${word#"${whole%"$cur"}"}")
	done <<<"$answer"
}
complete -F _stepup stepup
