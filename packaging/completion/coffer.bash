# bash completion for coffer(1): commands, options, names of clients, purposes and sessions.
#
# Words from the daemons are compared here, never given to `compgen -W`, which would expand what stands in them.

_coffer_ask() { # MEMBER COMMAND...: that member of each row of a command's JSON list
	coffer "${_coffer_dir[@]}" "${@:2}" --json 2>/dev/null |
		sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",\\]*\)"\{0,1\},\{0,1\}$/\1/p' | sort -u
}

_coffer_offer() { # the lines of stdin that begin as the word does
	local line
	while IFS= read -r line; do
		[[ $line != "$cur"* ]] || COMPREPLY+=("$line")
	done
}

_coffer_files() { # compgen's ACTION: -f or -d
	compopt -o filenames 2>/dev/null
	_coffer_offer < <(compgen "$1" -- "$cur")
}

_coffer_commands() { # their first words; with an argument the second words of that one
	coffer --help 2>/dev/null | sed -n "s/^  ${1:+$1 }\([a-z-]\{1,\}\) .*/\1/p" | sort -u
}

_coffer_options() {
	{ coffer "${words[@]:0:2}" --help 2>/dev/null || coffer "${words[0]}" --help 2>/dev/null; } |
		grep -o -e '--[a-z-]*' | sort -u
}

_coffer() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=() i _coffer_dir=()
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--dir) _coffer_dir=(--dir "${COMP_WORDS[++i]}") ;;
		--) # the program of coffer shell, and its arguments
			if ((i + 1 == COMP_CWORD)); then _coffer_offer < <(compgen -c -- "$cur"); else _coffer_files -f; fi
			return ;;
		--read-only | --shared | --held | --exclusive | --group | --lazy | --json | --passphrase | --repair | --isolate | --resume | --emergency | --all | --ended | --dry-run | --lost | --key-file | --follow | --notify) ;;
		--*=*) ;;
		--*) ((++i)) ;; # its value
		-*) ;;
		*) words+=("${COMP_WORDS[i]}") ;;
		esac
	done
	case $prev in
	--dir) _coffer_files -d; return ;;
	--anchors | --document | --pseudonyms | --policy | --db | --pubkey | --key | --copy | --recovery-key | --recovery-copy | --credential | --to) _coffer_files -f; return ;;
	--purpose) _coffer_offer < <(_coffer_ask purpose policy show); return ;;
	--outcome) _coffer_offer <<<$'ok\nfailed'; return ;;
	--format) _coffer_offer <<<$'csv\ncef\nocsf\njournald'; return ;;
	--rights) _coffer_offer <<<$'r\nrw'; return ;;
	--party) _coffer_offer < <(_coffer_ask party policy show); return ;;
	--client) _coffer_offer < <(_coffer_ask client client list); return ;;
	--user) _coffer_offer < <(compgen -u -- "$cur"); return ;;
	--session) _coffer_offer < <(_coffer_ask session sessions); return ;;
	--from | --until | --since | --on | --at) _coffer_offer <<<$'today\ntomorrow\nyesterday\nnow'; return ;;
	esac
	if [[ ${#words[@]} == 0 ]]; then
		_coffer_offer < <(_coffer_commands; printf '%s\n' --dir --json --help --version)
		return
	fi
	if [[ $cur == -* ]]; then
		_coffer_offer < <(_coffer_options)
		return
	fi
	case ${words[0]}:${#words[@]} in
	client:1 | hold:1 | subject:1 | expiry:1 | event:1 | retention:1 | clock:1 | policy:1 | session:1 | log:1 | recovery:1 | rotate:1 | slot:1) _coffer_offer < <(_coffer_commands "${words[0]}") ;;
	certificate:1) _coffer_offer < <(_coffer_ask client client list; printf '%s\n' list show verify) ;;
	report:1) _coffer_offer < <(_coffer_ask client client list; printf '%s\n' verify) ;;
	certificate:2 | policy:2 | report:2) _coffer_files -f ;;
	client:2 | retention:2 | expiry:2 | event:2 | mount:1 | shell:1 | grant:1 | revoke:1 | access:1 | suspend:1 | resume:1 | fsck:1 | why:2)
		_coffer_offer < <(_coffer_ask client client list) ;;
	subject:2) case ${words[1]} in
		label | unlabel | list) _coffer_files -f ;;
		*) _coffer_offer < <(_coffer_ask client client list) ;;
		esac ;;
	hold:2) [[ ${words[1]} == lift ]] || _coffer_offer < <(_coffer_ask client client list)
		[[ ${words[1]} != lift ]] || _coffer_offer < <(_coffer_ask hold hold list) ;;
	grant:2 | revoke:2 | why:1) _coffer_offer < <(compgen -u -- "$cur") ;;
	backup:1) _coffer_offer < <(printf '%s\n' check)
		_coffer_files -d ;;
	restore:2) _coffer_offer < <(_coffer_ask client client list) ;;
	source:1 | import:1) _coffer_files -f ;;
	import:2 | mount:2 | bench:1 | backup:2 | restore:1 | drill:1 | adopt:1) _coffer_files -d ;;
	transfer:1 | incident:1 | disclose:1) _coffer_offer < <(_coffer_ask client client list) ;;
	rotate:2) [[ ${words[1]} != client ]] || _coffer_offer < <(_coffer_ask client client list) ;;
	slot:2) [[ ${words[1]} == add ]] || _coffer_offer < <(_coffer_ask name slot list) ;;
	slot:3) _coffer_files -d ;;
	recovery:2) case ${words[1]} in
		keygen | add) _coffer_files -f ;;
		confirm | remove) _coffer_offer < <(_coffer_ask name recovery list) ;;
		esac ;;
	unmount:1 | umount:1) _coffer_files -d
		_coffer_offer < <(_coffer_ask mountpoint sessions) ;;
	session:2) _coffer_offer < <(_coffer_ask session sessions) ;;
	esac
}
complete -F _coffer coffer
