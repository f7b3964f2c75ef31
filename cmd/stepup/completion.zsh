#compdef stepup
# Completion of stepup for zsh. In ~/.zshrc, after compinit: source <(stepup completion zsh)
_stepup() {
	local line
	local -a answer values
	answer=("${(@f)$("${(Q)words[1]/#\~/$HOME}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
	if [[ $answer[1] == ':files' ]]; then
		compset -P '-*='
		_files
		return
	fi
	for line in $answer; do
		values+=("${${line%%$'\t'*}//:/\\:}${${(M)line%$'\t'*}/$'\t'/:}")
	done
	_describe 'stepup' values
}
if [[ $funcstack[1] == _stepup ]]; then
	_stepup "$@"
else
	compdef _stepup stepup
fi
