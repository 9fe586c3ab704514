# bash completion for coffer(1): commands, options, names of clients, purposes and sessions.

_coffer_words() { # member of each row of a command's JSON list
	coffer "${_coffer_dir[@]}" "${@:2}" --json 2>/dev/null |
		sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' | sort -u
}

_coffer() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=() i command= sub= _coffer_dir=()
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--dir) _coffer_dir=(--dir "${COMP_WORDS[++i]}") ;;
		-*) ;;
		*) words+=("${COMP_WORDS[i]}") ;;
		esac
	done
	command=${words[0]-} sub=${words[1]-}
	case $prev in
	--dir | --policy | --db | --pubkey) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	--purpose) mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words purpose policy check)" -- "$cur"); return ;;
	--rights) mapfile -t COMPREPLY < <(compgen -W "r rw" -- "$cur"); return ;;
	--party) mapfile -t COMPREPLY < <(compgen -W "employee provider partner affiliate" -- "$cur"); return ;;
	--client) mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words client client list)" -- "$cur"); return ;;
	--user) mapfile -t COMPREPLY < <(compgen -u -- "$cur"); return ;;
	--session) mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words session sessions)" -- "$cur"); return ;;
	esac
	if [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(coffer --help 2>/dev/null | sed -n 's/^  \([a-z]*\).*/\1/p' | sort -u) --dir --json --help" -- "$cur")
		return
	fi
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(coffer "${words[@]:0:2}" --help 2>/dev/null |
			grep -o -e '--[a-z-]*' || coffer "$command" --help 2>/dev/null | grep -o -e '--[a-z-]*')" -- "$cur")
		return
	fi
	case $command:${#words[@]} in
	client:1 | hold:1 | retention:1 | clock:1 | policy:1 | session:1)
		mapfile -t COMPREPLY < <(compgen -W "$(coffer --help 2>/dev/null | sed -n "s/^  $command \([a-z]*\).*/\1/p")" -- "$cur") ;;
	log:1) mapfile -t COMPREPLY < <(compgen -W verify -- "$cur") ;;
	client:2 | hold:2 | retention:2 | mount:1 | grant:1 | revoke:1 | access:1 | suspend:1 | resume:1 | certificate:1)
		mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words client client list)" -- "$cur") ;;
	why:2) mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words client client list)" -- "$cur") ;;
	grant:2 | revoke:2 | why:1) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
	mount:2) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	unmount:1) compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words mountpoint sessions)" -- "$cur"; compgen -d -- "$cur") ;;
	session:2) mapfile -t COMPREPLY < <(compgen -W "$(_coffer_words session sessions)" -- "$cur") ;;
	esac
}
complete -F _coffer coffer
