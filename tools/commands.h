/* The subcommands: each parses its own arguments and returns an exit code. */
#ifndef COFFER_COMMANDS_H
#define COFFER_COMMANDS_H

#include <jansson.h>

struct tool;

int cmd_up(struct tool *t, int argc, char **argv);
int cmd_down(struct tool *t, int argc, char **argv);
int cmd_status(struct tool *t, int argc, char **argv);
int cmd_mount(struct tool *t, int argc, char **argv);
int cmd_shell(struct tool *t, int argc, char **argv);
int cmd_import(struct tool *t, int argc, char **argv);
int cmd_source(struct tool *t, int argc, char **argv);
int cmd_unmount(struct tool *t, int argc, char **argv);
int cmd_shares(struct tool *t, int argc, char **argv);
int cmd_sessions(struct tool *t, int argc, char **argv);
int cmd_session_end(struct tool *t, int argc, char **argv);
int cmd_why(struct tool *t, int argc, char **argv);
int cmd_client_add(struct tool *t, int argc, char **argv);
int cmd_client_list(struct tool *t, int argc, char **argv);
int cmd_client_end(struct tool *t, int argc, char **argv);
int cmd_engagement_begin(struct tool *t, int argc, char **argv);
int cmd_engagement_end(struct tool *t, int argc, char **argv);
int cmd_engagement_list(struct tool *t, int argc, char **argv);
int cmd_consent_give(struct tool *t, int argc, char **argv);
int cmd_consent_withdraw(struct tool *t, int argc, char **argv);
int cmd_consent_list(struct tool *t, int argc, char **argv);
int cmd_agreement_set(struct tool *t, int argc, char **argv);
int cmd_agreement_show(struct tool *t, int argc, char **argv);
int cmd_agreement_end(struct tool *t, int argc, char **argv);
int cmd_request(struct tool *t, int argc, char **argv);
int cmd_requests(struct tool *t, int argc, char **argv);
int cmd_approve(struct tool *t, int argc, char **argv);
int cmd_deny(struct tool *t, int argc, char **argv);
int cmd_reviews(struct tool *t, int argc, char **argv);
int cmd_reviews_close(struct tool *t, int argc, char **argv);
int cmd_grant(struct tool *t, int argc, char **argv);
int cmd_grants_import(struct tool *t, int argc, char **argv);
int cmd_grants_export(struct tool *t, int argc, char **argv);
int cmd_revoke(struct tool *t, int argc, char **argv);
int cmd_access(struct tool *t, int argc, char **argv);
int cmd_suspend(struct tool *t, int argc, char **argv);
int cmd_resume(struct tool *t, int argc, char **argv);
int cmd_help(struct tool *t, int argc, char **argv);
int cmd_doctor(struct tool *t, int argc, char **argv);
int cmd_bench(struct tool *t, int argc, char **argv);
int cmd_log(struct tool *t, int argc, char **argv);
int cmd_incident(struct tool *t, int argc, char **argv);
int cmd_disclose(struct tool *t, int argc, char **argv);
int cmd_disclosures(struct tool *t, int argc, char **argv);
int cmd_stats(struct tool *t, int argc, char **argv);
int cmd_report(struct tool *t, int argc, char **argv);
int cmd_report_verify(struct tool *t, int argc, char **argv);
int cmd_log_archive(struct tool *t, int argc, char **argv);
int cmd_log_verify(struct tool *t, int argc, char **argv);
int cmd_class_set(struct tool *t, int argc, char **argv);
int cmd_class_show(struct tool *t, int argc, char **argv);
int cmd_subject_label(struct tool *t, int argc, char **argv);
int cmd_subject_unlabel(struct tool *t, int argc, char **argv);
int cmd_subject_list(struct tool *t, int argc, char **argv);
int cmd_subject_export(struct tool *t, int argc, char **argv);
int cmd_subject_shred(struct tool *t, int argc, char **argv);
int cmd_subject_find(struct tool *t, int argc, char **argv);
int cmd_shred(struct tool *t, int argc, char **argv);
int cmd_hold_place(struct tool *t, int argc, char **argv);
int cmd_hold_lift(struct tool *t, int argc, char **argv);
int cmd_hold_list(struct tool *t, int argc, char **argv);
int cmd_forecast(struct tool *t, int argc, char **argv);
int cmd_event_set(struct tool *t, int argc, char **argv);
int cmd_event_list(struct tool *t, int argc, char **argv);
int cmd_expiry_list(struct tool *t, int argc, char **argv);
int cmd_expiry_cancel(struct tool *t, int argc, char **argv);
int cmd_expiry_schedule(struct tool *t, int argc, char **argv);
int cmd_expiry_confirm(struct tool *t, int argc, char **argv);
int cmd_expiry_run(struct tool *t, int argc, char **argv);
int cmd_clock_confirm(struct tool *t, int argc, char **argv);
int cmd_certificate(struct tool *t, int argc, char **argv);
int cmd_certificate_list(struct tool *t, int argc, char **argv);
int cmd_certificate_show(struct tool *t, int argc, char **argv);
int cmd_certificate_verify(struct tool *t, int argc, char **argv);
int cmd_public_key(struct tool *t, int argc, char **argv);
int cmd_seal(struct tool *t, int argc, char **argv);
int cmd_unseal(struct tool *t, int argc, char **argv);
int cmd_passphrase(struct tool *t, int argc, char **argv);
int cmd_slot_list(struct tool *t, int argc, char **argv);
int cmd_slot_add(struct tool *t, int argc, char **argv);
int cmd_slot_remove(struct tool *t, int argc, char **argv);
int cmd_slot_replace(struct tool *t, int argc, char **argv);
int cmd_slot_seal(struct tool *t, int argc, char **argv);
int cmd_recovery_keygen(struct tool *t, int argc, char **argv);
int cmd_recovery_add(struct tool *t, int argc, char **argv);
int cmd_recovery_list(struct tool *t, int argc, char **argv);
int cmd_recovery_remove(struct tool *t, int argc, char **argv);
int cmd_recovery_confirm(struct tool *t, int argc, char **argv);
int cmd_recovery_check(struct tool *t, int argc, char **argv);
int cmd_recovery_open(struct tool *t, int argc, char **argv);
int cmd_rotate_root(struct tool *t, int argc, char **argv);
int cmd_rotate_signing(struct tool *t, int argc, char **argv);
int cmd_rotate_client(struct tool *t, int argc, char **argv);
int cmd_backup(struct tool *t, int argc, char **argv);
int cmd_backup_check(struct tool *t, int argc, char **argv);
int cmd_transfer(struct tool *t, int argc, char **argv);
int cmd_transfer_key(struct tool *t, int argc, char **argv);
int cmd_adopt(struct tool *t, int argc, char **argv);
int cmd_drill(struct tool *t, int argc, char **argv);
int cmd_restore(struct tool *t, int argc, char **argv);
int cmd_fsck(struct tool *t, int argc, char **argv);
int cmd_policy_show(struct tool *t, int argc, char **argv);
int cmd_policy_check(struct tool *t, int argc, char **argv);
int cmd_policy_apply(struct tool *t, int argc, char **argv);
int cmd_policy_diff(struct tool *t, int argc, char **argv);
int cmd_policy_versions(struct tool *t, int argc, char **argv);
int cmd_agreement_diff(struct tool *t, int argc, char **argv);

/* Parses the arguments and calls the method of keyd with the text of the file that the field "file" names (a policy or an
 * agreement) as its parameter "text".  *ret: the answer, the caller's.  An exit code. */
struct request;
int call_with_policy_text(
	struct tool *t, int argc, char **argv, const struct request *rq, const char *method, json_t **ret);
/* To stderr: what an erasure takes with it of what stood there before (`verb`), and what it does not reach. */
void say_versions(const json_t *counts, const char *verb);

#endif
