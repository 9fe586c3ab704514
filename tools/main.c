/* coffer: finds the subcommand and runs it.  Each stands in a cmd_<verb>.c. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/mount_helper.h"
#include "tools/tool.h"

const struct command commands[] = {
	{"help", cmd_help, "what there is to do, by role, and with which commands"},
	{"up", cmd_up, "start the daemons"},
	{"down", cmd_down, "end all sessions and stop the daemons"},
	{"status", cmd_status, "what runs, how it is protected, what to mind"},
	{"doctor", cmd_doctor, "whether this installation is as it should be, and how to mend it"},
	{"mount", cmd_mount, "mount a client's share for a purpose"},
	{"shell", cmd_shell, "run a shell or program inside a share, with its temporary files"},
	{"unmount", cmd_unmount, "end a session and remove its mount"},
	{"umount", cmd_unmount, NULL},
	{"shares", cmd_shares, "what may I mount, for which purposes"},
	{"sessions", cmd_sessions, "who has what open"},
	{"session end", cmd_session_end, "end a session"},
	{"import", cmd_import, "copy data into a share, and record where it came from"},
	{"source", cmd_source, "record where a file or directory came from"},
	{"bench", cmd_bench, "how fast files are on a mount, and what of it the record costs"},
	{"why", cmd_why, "why somebody may, or may not, open a client"},
	{"client add", cmd_client_add, "add a client"},
	{"client list", cmd_client_list, "list the clients"},
	{"client end", cmd_client_end, "record the end of the relationship: retention begins"},
	{"engagement begin", cmd_engagement_begin, "record what a client has engaged the firm for"},
	{"engagement end", cmd_engagement_end, "end an engagement: sessions that rest on it end"},
	{"engagement list", cmd_engagement_list, "list the engagements"},
	{"consent give", cmd_consent_give, "record a client's consent"},
	{"consent withdraw", cmd_consent_withdraw, "record a withdrawal: sessions that rest on it end"},
	{"consent list", cmd_consent_list, "list the consents"},
	{"agreement set", cmd_agreement_set, "record what a client's contract says otherwise than the policy"},
	{"agreement show", cmd_agreement_show, "show the agreements with a client"},
	{"agreement diff", cmd_agreement_diff, "what an agreement would change"},
	{"agreement end", cmd_agreement_end, "end the agreement with a client"},
	{"request", cmd_request, "ask for the approval that a purpose or record class needs"},
	{"requests", cmd_requests, "list what was asked for"},
	{"approve", cmd_approve, "approve what another asked for"},
	{"deny", cmd_deny, "deny what another asked for, or take an approval back"},
	{"reviews close", cmd_reviews_close, "say that an emergency or a change was looked at"},
	{"reviews", cmd_reviews, "list what somebody else must look at"},
	{"grant", cmd_grant, "let a user or group open a client for a purpose"},
	{"grants export", cmd_grants_export, "write the grants as CSV"},
	{"grants import", cmd_grants_import, "read grants from CSV: all or nothing"},
	{"revoke", cmd_revoke, "take grants back; sessions that rest on them end at once"},
	{"access", cmd_access, "who may what, for which purpose, now or on a date"},
	{"suspend", cmd_suspend, "suspend the use of a client's data, a user, or all use"},
	{"resume", cmd_resume, "lift a suspension"},
	{"log", cmd_log, "who did what to which file, when and for which purpose"},
	{"log archive", cmd_log_archive, "move months of the record that are over into files of their own"},
	{"log verify", cmd_log_verify, "check that nothing in the record was changed, removed or cut"},
	{"incident", cmd_incident, "after a breach: which clients, persons and files, and the letters"},
	{"disclose", cmd_disclose, "record that data were disclosed to an authority"},
	{"disclosures", cmd_disclosures, "list the disclosures that are sealed until a day"},
	{"report", cmd_report, "what a client may ask for: who used his data, for what, until when"},
	{"report verify", cmd_report_verify, "check the signature of a report, without the daemons"},
	{"stats", cmd_stats, "how much the data are used, without telling anything about anybody"},
	{"fsck", cmd_fsck, "look for damage in a client's store, and for files older than the record knows"},
	{"backup check", cmd_backup_check, "whether a backup is as it was made"},
	{"backup", cmd_backup, "copy store, facts, sealed keys and record, while sessions run"},
	{"class set", cmd_class_set, "give a file or directory a record class"},
	{"class show", cmd_class_show, "which record class a file or directory is of"},
	{"subject label", cmd_subject_label, "say whom a file, or all in a directory, is about"},
	{"subject unlabel", cmd_subject_unlabel, "take such a label away"},
	{"subject find", cmd_subject_find, "list what there is about a person"},
	{"subject export", cmd_subject_export, "copy what there is about a person, for him"},
	{"subject shred", cmd_subject_shred, "destroy the keys of all that is about a person"},
	{"subject list", cmd_subject_list, "show whom a file or directory is about"},
	{"shred", cmd_shred, "destroy the keys of one file or tree, for good"},
	{"transfer", cmd_transfer, "hand a client over to another installation"},
	{"transfer-key", cmd_transfer_key, "print the key to which others hand over clients"},
	{"adopt", cmd_adopt, "take over a client that another installation handed over"},
	{"drill", cmd_drill, "restore a backup into a scratch directory, open every file, and say whether it would do"},
	{"restore", cmd_restore, "bring back a file, a tree, or a whole installation from a backup"},
	{"hold place", cmd_hold_place, "keep a client's data from destruction"},
	{"hold lift", cmd_hold_lift, "lift a hold"},
	{"hold list", cmd_hold_list, "list the holds"},
	{"retention forecast", cmd_forecast, "when what will be destroyed, by which rule"},
	{"event set", cmd_event_set, "record the date of an event that retention counts from"},
	{"event list", cmd_event_list, "list the events that were recorded"},
	{"expiry list", cmd_expiry_list, "which destructions run, are due, wait, are held"},
	{"expiry cancel", cmd_expiry_cancel, "cancel a destruction that waits"},
	{"expiry schedule", cmd_expiry_schedule, "ask for a destruction before the waiting is over"},
	{"expiry run", cmd_expiry_run, "destroy what has waited, without waiting for the window"},
	{"expiry confirm", cmd_expiry_confirm, "confirm what another custodian asked for"},
	{"clock confirm", cmd_clock_confirm, "say that the clock is right after it jumped"},
	{"certificate list", cmd_certificate_list, "list certificates, each with its verdict, without the daemons"},
	{"certificate show", cmd_certificate_show, "print a certificate, without the daemons"},
	{"certificate verify", cmd_certificate_verify,
		"check a certificate's signature, without the daemons"},
	{"certificate", cmd_certificate, "show the certificate of a destruction"},
	{"seal", cmd_seal, "end all sessions and forget all keys until unsealed"},
	{"unseal", cmd_unseal, "open the keys again"},
	{"passphrase", cmd_passphrase, "seal the keys by a passphrase from now on"},
	{"rotate root", cmd_rotate_root, "make a new root key"},
	{"rotate client", cmd_rotate_client, "seal a client's key tree under a new key"},
	{"rotate signing", cmd_rotate_signing, "make a new key for certificates and the record"},
	{"rotate passphrase", cmd_passphrase, "the same as passphrase"},
	{"slot list", cmd_slot_list, "list the slots: where the root key lives"},
	{"slot add", cmd_slot_add, "add a slot on another medium"},
	{"slot remove", cmd_slot_remove, "overwrite a slot and take it away, or give up one that is lost"},
	{"slot replace", cmd_slot_replace, "make a slot anew that is damaged, foreign or given up"},
	{"slot seal", cmd_slot_seal, "seal a slot by something else"},
	{"recovery keygen", cmd_recovery_keygen, "make a recovery key, on another machine"},
	{"recovery add", cmd_recovery_add, "seal the root key to a recovery key, now and at each exchange"},
	{"recovery list", cmd_recovery_list, "list the recovery keys, and which old copies may remain"},
	{"recovery check", cmd_recovery_check, "whether every recovery key has a copy of now, or whether one opens"},
	{"recovery confirm", cmd_recovery_confirm, "say that a holder's old copies are destroyed"},
	{"recovery remove", cmd_recovery_remove, "take a recovery key away"},
	{"recovery open", cmd_recovery_open, "make a new slot with a recovery key when every slot is lost"},
	{"policy show", cmd_policy_show, "show a policy: purposes, record classes, parties"},
	{"public-key", cmd_public_key, "print the key that signs certificates and the record"},
	{"policy check", cmd_policy_check, "check a policy file"},
	{"policy diff", cmd_policy_diff, "what another policy would change: rules, grants, sessions"},
	{"policy apply", cmd_policy_apply, "make a file the next version of the policy"},
	{"policy versions", cmd_policy_versions, "list the versions of the policy"},
	{0},
};

const char *argp_program_version = "coffer " COFFER_VERSION;

static void print_commands(FILE *to)
{
	fputs("Usage: coffer [--dir DIR] [--json] COMMAND [ARGUMENT...]\n"
	      "Client data, mounted for a purpose, recorded, and forgotten when its time is up.\n\n",
		to);
	for (const struct command *c = commands; c->name; c++)
		if (c->doc)
			fprintf(to, "  %-20s %s\n", c->name, c->doc);
	fputs("\n`coffer COMMAND --help` says more.  DIR is the state directory (default: COFFER_DIR, "
	      "else " STATEDIR_DEFAULT ").\n",
		to);
}

/* The options before the subcommand. */
static error_t parse_global(int key, char *arg, struct argp_state *state)
{
	int *first = ((void **)state->input)[1];

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = ((void **)state->input)[0];
		return 0;
	case 'h':
		print_commands(stdout);
		exit(fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED);
	case 'V':
		printf("%s\n", argp_program_version);
		exit(EXIT_OK);
	case ARGP_KEY_ARG:
		*first = state->next - 1;
		state->next = state->argc;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option global_options[] = {
	{"help", 'h', NULL, 0, "list the commands", 0},
	{"version", 'V', NULL, 0, "print the version", 0},
	{0},
};

/* The longest match wins: "log verify" before "log". */
static const struct command *find(int argc, char **argv, int *ret_words)
{
	const struct command *found = NULL;

	for (const struct command *c = commands; c->name; c++) {
		const char *space = strchr(c->name, ' ');
		size_t first = space ? (size_t)(space - c->name) : strlen(c->name);

		if (strlen(argv[0]) != first || strncmp(argv[0], c->name, first) != 0)
			continue;
		if (space && argc > 1 && strcmp(argv[1], space + 1) == 0) {
			*ret_words = 2;
			return c;
		}
		if (!space) {
			*ret_words = 1;
			found = c;
		}
	}
	return found;
}

/* `coffer client --help`: what there is of it. */
static bool print_group(const char *first)
{
	size_t n = strlen(first);
	bool found = false;

	for (const struct command *c = commands; c->name; c++) {
		if (!c->doc || strncmp(c->name, first, n) != 0 || c->name[n] != ' ')
			continue;
		if (!found)
			printf("Usage: coffer %s COMMAND [ARGUMENT...], where COMMAND is one of:\n\n", first);
		printf("  %-20s %s\n", c->name, c->doc);
		found = true;
	}
	if (found)
		printf("\n`coffer %s COMMAND --help` says more.\n", first);
	return found;
}

static int unknown(int argc, char **argv)
{
	scoped(freep) char *known = NULL;
	size_t n;
	FILE *f = open_memstream(&known, &n);

	if (!f)
		return EXIT_FAILED;
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "help") == 0) &&
		print_group(argv[0])) {
		fclose(f);
		return EXIT_OK;
	}
	for (const struct command *c = commands; c->name; c++) {
		size_t first = strcspn(c->name, " ");

		if (c->name[first] && strlen(argv[0]) == first && strncmp(c->name, argv[0], first) == 0)
			fprintf(f, "%s%s", ftell(f) > 0 ? ", " : "", c->name + first + 1);
	}
	fclose(f);
	if (known && *known)
		return fail(EXIT_USAGE, "%s%s%s: write one of: %s; `coffer %s --help` says what each does", argv[0],
			argc > 1 ? " " : "", argc > 1 ? argv[1] : "", known, argv[0]);
	return fail(EXIT_USAGE, "%s: no such command; `coffer --help` lists them", argv[0]);
}

static int coffer(int argc, char **argv)
{
	static const struct argp argp = {
		global_options, parse_global, "COMMAND [ARGUMENT...]", NULL, tool_children, NULL, NULL};
	struct tool t = {0};
	int first = 0, words = 0, r;
	void *input[] = {&t, &first};
	const struct command *c;
	char name[64];

	setlocale(LC_CTYPE, ""); /* tables measure and escape text by it; everything else stays as in C */
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP, NULL, input);
	if (first == 0) {
		print_commands(stderr);
		return EXIT_USAGE;
	}
	c = find(argc - first, argv + first, &words);
	if (!c)
		return unknown(argc - first, argv + first);
	/* argp prints the program's name from argv[0] */
	snprintf(name, sizeof(name), "coffer %s", c->name);
	argv[first + words - 1] = name;
	r = c->run(&t, argc - first - words + 1, argv + first + words - 1);
	tool_done(&t);
	if (fflush(stdout) != 0 || ferror(stdout))
		return fail(EXIT_FAILED, "the output could not be written");
	return r;
}

int main(int argc, char **argv)
{
	char **arguments = NULL;
	bool fake;
	int r;

	if (!mount_helper_is_me(argv[0]))
		return coffer(argc, argv);
	argp_err_exit_status = EXIT_USAGE;
	r = mount_helper_arguments(argc, argv, &argc, &arguments, &fake);
	if (r == EXIT_OK && !fake)
		r = coffer(argc, arguments);
	free(arguments);
	return mount_helper_exit(r);
}
