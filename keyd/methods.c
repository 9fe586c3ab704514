#include "keyd/disclosure.h"
#include "keyd/sealed.h"
#include "keyd/methods.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "keyd/archive.h"
#include "keyd/backup.h"
#include "keyd/classes.h"
#include "keyd/erase.h"
#include "keyd/fsck.h"
#include "keyd/holders.h"
#include "keyd/jit.h"
#include "keyd/holds.h"
#include "keyd/job.h"
#include "keyd/report.h"
#include "keyd/restore.h"
#include "keyd/rotate.h"
#include "keyd/slots.h"
#include "keyd/subjects.h"
#include "keyd/terms.h"
#include "keyd/transfer.h"

#define NAME(method) "org.coffer.keyd." method
#define ANY_STATE 0

const struct varlink_method keyd_methods[] = {
	{NAME("Status"), ROLES_ALL, ANY_STATE, keyd_status},
	{NAME("ClientAdd"), ROLE_ADMIN, KEYD_OPEN, keyd_client_add},
	{NAME("ClientList"), ROLES_ALL, ANY_STATE, keyd_client_list},
	{NAME("ClientEnd"), ROLE_ADMIN, ANY_STATE, keyd_client_end},
	{NAME("Grant"), ROLE_ADMIN, ANY_STATE, keyd_grant},
	{NAME("GrantImport"), ROLE_ADMIN, ANY_STATE, keyd_grant_import},
	{NAME("Revoke"), ROLE_ADMIN, ANY_STATE, keyd_revoke},
	{NAME("EngagementBegin"), ROLE_ADMIN, ANY_STATE, keyd_engagement_begin},
	{NAME("EngagementEnd"), ROLE_ADMIN, ANY_STATE, keyd_engagement_end},
	{NAME("EngagementList"), ROLES_OVERSIGHT, ANY_STATE, keyd_engagement_list},
	{NAME("ConsentGive"), ROLE_ADMIN, ANY_STATE, keyd_consent_give},
	{NAME("ConsentWithdraw"), ROLE_ADMIN, ANY_STATE, keyd_consent_withdraw},
	{NAME("ConsentList"), ROLES_OVERSIGHT, ANY_STATE, keyd_consent_list},
	{NAME("AgreementSet"), ROLE_ADMIN, ANY_STATE, keyd_agreement_set},
	{NAME("AgreementEnd"), ROLE_ADMIN, ANY_STATE, keyd_agreement_end},
	{NAME("AgreementList"), ROLES_OVERSIGHT, ANY_STATE, keyd_agreement_list},
	{NAME("AgreementDiff"), ROLE_ADMIN | ROLE_AUDITOR, ANY_STATE, keyd_agreement_diff},
	{NAME("PolicyApply"), ROLE_ADMIN, ANY_STATE, keyd_policy_apply},
	{NAME("PolicyDiff"), ROLE_ADMIN | ROLE_AUDITOR, ANY_STATE, keyd_policy_diff},
	{NAME("PolicyList"), ROLES_ALL, ANY_STATE, keyd_policy_list},
	{NAME("PolicyText"), ROLES_ALL, ANY_STATE, keyd_policy_text},
	{NAME("Request"), ROLES_ALL, ANY_STATE, keyd_request},
	{NAME("RequestList"), ROLES_ALL, ANY_STATE, keyd_request_list},
	{NAME("RequestDecide"), ROLE_ADMIN | ROLE_CUSTODIAN, ANY_STATE, keyd_request_decide},
	{NAME("ReviewList"), ROLES_OVERSIGHT, ANY_STATE, keyd_review_list},
	{NAME("ReviewClose"), ROLES_OVERSIGHT, ANY_STATE, keyd_review_close},
	{NAME("Access"), ROLES_ALL, ANY_STATE, keyd_access},
	{NAME("Shares"), ROLES_ALL, ANY_STATE, keyd_shares},
	{NAME("Why"), ROLES_ALL, ANY_STATE, keyd_why},
	{NAME("Mount"), ROLES_ALL, KEYD_OPEN, keyd_mount},
	{NAME("Sessions"), ROLES_ALL, ANY_STATE, keyd_sessions},
	{NAME("SessionEnd"), ROLES_ALL, ANY_STATE, keyd_session_end},
	{NAME("Suspend"), ROLE_ADMIN, ANY_STATE, keyd_suspend},
	{NAME("Resume"), ROLE_ADMIN, ANY_STATE, keyd_resume},
	{NAME("HoldPlace"), ROLE_CUSTODIAN, ANY_STATE, keyd_hold_place},
	{NAME("HoldLift"), ROLE_CUSTODIAN, ANY_STATE, keyd_hold_lift},
	{NAME("HoldList"), ROLES_OVERSIGHT, ANY_STATE, keyd_hold_list},
	{NAME("RetentionForecast"), ROLES_OVERSIGHT, ANY_STATE, keyd_retention_forecast},
	{NAME("Incident"), ROLE_ADMIN | ROLE_AUDITOR, ANY_STATE, keyd_incident},
	{NAME("Report"), ROLE_ADMIN | ROLE_AUDITOR, KEYD_OPEN, keyd_report},
	{NAME("Disclose"), ROLE_ADMIN | ROLE_CUSTODIAN, ANY_STATE, keyd_disclose},
	{NAME("SealedList"), ROLE_ADMIN | ROLE_CUSTODIAN, ANY_STATE, keyd_sealed_list},
	{NAME("EventSet"), ROLE_ADMIN, ANY_STATE, keyd_event_set},
	{NAME("EventList"), ROLES_OVERSIGHT, ANY_STATE, keyd_event_list},
	{NAME("ExpiryList"), ROLES_OVERSIGHT, ANY_STATE, keyd_expiry_list},
	{NAME("ExpiryCancel"), ROLE_CUSTODIAN, ANY_STATE, keyd_expiry_cancel},
	{NAME("ExpirySchedule"), ROLE_CUSTODIAN, ANY_STATE, keyd_expiry_schedule},
	{NAME("ExpiryConfirm"), ROLE_CUSTODIAN, ANY_STATE, keyd_expiry_confirm},
	{NAME("ExpiryRun"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_expiry_run},
	{NAME("ClockConfirm"), ROLE_CUSTODIAN, ANY_STATE, keyd_clock_confirm},
	{NAME("Certificate"), ROLES_OVERSIGHT, ANY_STATE, keyd_certificate},
	{NAME("Seal"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_seal_method},
	{NAME("Unseal"), ROLE_CUSTODIAN, ANY_STATE, keyd_unseal_method},
	{NAME("PassphraseSet"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_passphrase_set},
	{NAME("SlotList"), ROLES_OVERSIGHT, ANY_STATE, keyd_slot_list},
	{NAME("SlotAdd"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_slot_add},
	{NAME("SlotRemove"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_slot_remove},
	{NAME("SlotReplace"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_slot_replace},
	{NAME("SlotSeal"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_slot_seal},
	{NAME("RecoveryAdd"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_recovery_add},
	{NAME("RecoveryRemove"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_recovery_remove},
	{NAME("RecoveryConfirm"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_recovery_confirm},
	{NAME("RecoveryList"), ROLES_OVERSIGHT, KEYD_OPEN, keyd_recovery_list},
	{NAME("RecoveryCheck"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_recovery_check},
	{NAME("RotateRoot"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_rotate_root},
	{NAME("RotateSigning"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_rotate_signing},
	{NAME("RotateClient"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_rotate_client},
	{NAME("LedgerNames"), ROLES_ALL, ANY_STATE, keyd_ledger_names},
	{NAME("LedgerArchive"), ROLE_ADMIN | ROLE_AUDITOR, KEYD_OPEN, keyd_ledger_archive},
	{NAME("Receipt"), ROLES_ALL, ANY_STATE, keyd_receipt},
	{NAME("LedgerHead"), ROLE_AUDITOR, ANY_STATE, keyd_ledger_head},
	{NAME("Fsck"), ROLES_OVERSIGHT | ROLE_OWNER, KEYD_OPEN, keyd_fsck},
	{NAME("FsckNext"), ROLES_OVERSIGHT | ROLE_OWNER, KEYD_OPEN, keyd_fsck_next},
	{NAME("FsckStop"), ROLES_OVERSIGHT | ROLE_OWNER, KEYD_OPEN, keyd_fsck_stop},
	{NAME("BackupSign"), ROLE_OWNER, KEYD_OPEN, keyd_backup_sign},
	{NAME("ClassSet"), ROLE_ADMIN | ROLE_CUSTODIAN, KEYD_OPEN, keyd_class_set},
	{NAME("ClassShow"), ROLES_OVERSIGHT, KEYD_OPEN, keyd_class_show},
	{NAME("Erase"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_erase},
	{NAME("SubjectFind"), ROLES_ALL, KEYD_OPEN, keyd_subject_find},
	{NAME("SubjectLabels"), ROLE_CUSTODIAN | ROLE_AUDITOR, KEYD_OPEN, keyd_subject_labels},
	{NAME("SubjectRows"), ROLES_ALL, KEYD_OPEN, keyd_subject_rows},
	{NAME("SubjectExport"), ROLES_ALL, KEYD_OPEN, keyd_subject_export},
	{NAME("Job"), ROLES_ALL, ANY_STATE, keyd_job},
	{NAME("TransferKey"), ROLES_OVERSIGHT | ROLE_OWNER, KEYD_OPEN, keyd_transfer_key},
	{NAME("Transfer"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_transfer},
	{NAME("TransferFinish"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_transfer_finish},
	{NAME("Adopt"), ROLE_CUSTODIAN, KEYD_OPEN, keyd_adopt},
	{NAME("Restore"), ROLE_OWNER | ROLE_CUSTODIAN, KEYD_OPEN, keyd_restore},
	{NAME("RestoreNext"), ROLE_OWNER | ROLE_CUSTODIAN, KEYD_OPEN, keyd_restore_next},
	{NAME("Shutdown"), ROLE_OWNER, ANY_STATE, keyd_shutdown_method},
	{0},
};

#define TIME_LAST 253402300799 /* the end of 9999: what is computed from a later one would not be true */
#define INVALID_PARAMETER "org.varlink.service.InvalidParameter"

bool params_unpack(struct varlink_call *call, json_t *params, const char *fmt, ...)
{
	json_error_t error;
	const char *key;
	json_t *value;
	va_list ap;
	void *next;
	int r;

	json_object_foreach_safe(params, next, key, value)
	{ /* null is as good as missing */
		if (json_is_null(value))
			json_object_del(params, key);
	}
	va_start(ap, fmt);
	r = json_vunpack_ex(params, &error, JSON_STRICT, fmt, ap);
	va_end(ap);
	if (r < 0)
		varlink_errorf(call, INVALID_PARAMETER, "doc/PROTOCOL.md lists the parameters of each method",
			"the parameters are not as they should be: %s", error.text);
	return r == 0;
}

bool params_text(struct varlink_call *call, const char *what, const char *text)
{
	if (text && (*text == '\0' || strlen(text) >= FACT_TEXT_MAX)) {
		varlink_errorf(call, INVALID_PARAMETER, NULL, "%s must have 1 to %d characters", what,
			FACT_TEXT_MAX - 1);
		return false;
	}
	return true;
}

bool params_time(struct varlink_call *call, json_t *params, const char *key, int64_t *ret)
{
	json_t *v = json_object_get(params, key);

	if (!v || json_is_null(v))
		return true;
	if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= TIME_LAST) {
		*ret = json_integer_value(v);
		return true;
	}
	if (json_is_string(v) && date_parse(json_string_value(v), keyd_now(), ret) == 0)
		return true;
	varlink_errorf(call, "InvalidDate", "write it as 2026-12-31 or 2026-12-31T18:30 (UTC)",
		"`%s` of \"%s\" is not a date", json_is_string(v) ? json_string_value(v) : "the value", key);
	return false;
}

bool params_client(struct keyd *k, struct varlink_call *call, const char *client, struct fact_client *ret)
{
	int r = facts_client(k->facts, client, FACTS_LATEST, ret);

	if (r == -ENOENT)
		varlink_errorf(call, "UnknownClient",
			"`coffer client list` shows the clients; `coffer client add` adds one",
			"there is no client %s", client);
	else if (r < 0)
		reply_failure(k, call, r, "the client cannot be looked up");
	return r == 0;
}

bool client_name_is_good(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= CLIENT_NAME_MAX || !(islower((unsigned char)*name) || isdigit((unsigned char)*name)))
		return false;
	for (; *name; name++)
		if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

bool params_rights(struct varlink_call *call, const char *text, enum rights *ret)
{
	*ret = RIGHTS_NONE;
	if (!text || policy_rights_parse(text, ret) == 0)
		return true;
	varlink_errorf(call, "InvalidRights", "write r to read, rw to read and write",
		"there are no rights \"%s\"", text);
	return false;
}

bool params_purpose(
	struct keyd *k, struct varlink_call *call, const char *id, const struct policy_purpose **ret)
{
	char list[768] = "the purposes are:";
	size_t n = strlen(list);

	*ret = policy_purpose(k->policy, id);
	if (*ret)
		return true;
	for (size_t i = 0; i < k->policy->purposes_count && n < sizeof(list); i++)
		n += (size_t)snprintf(
			list + n, sizeof(list) - n, "%s %s", i > 0 ? "," : "", k->policy->purposes[i].id);
	varlink_errorf(
		call, "UnknownPurpose", list, "the policy %s knows no purpose %s", k->policy->name, id);
	return false;
}

struct actor actor_of(const struct varlink_call *call)
{
	const struct peer *p = varlink_call_peer(call);

	return (struct actor){.user = p->user, .uid = p->uid};
}

static const unsigned role_bits[POLICY_ROLES] = {[POLICY_ADMIN] = ROLE_ADMIN, [POLICY_CUSTODIAN] = ROLE_CUSTODIAN,
	[POLICY_AUDITOR] = ROLE_AUDITOR, [POLICY_CONSULTANT] = 0};

/* Those of `have` that role n may not be used together with. */
static unsigned forbidden(const struct policy *p, unsigned n, unsigned have)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < POLICY_ROLES; i++)
		if (i != n && !(p->together[n] & (1u << i)))
			bad |= have & role_bits[i];
	return bad;
}

static unsigned usable_under(const struct policy *policy, const struct peer *p)
{
	unsigned usable = ~0u;

	if (p->roles & ROLE_OWNER)
		return usable;
	for (unsigned i = 0; i < POLICY_ROLES; i++)
		if (p->roles & role_bits[i] && forbidden(policy, i, p->roles))
			usable &= ~role_bits[i];
	return usable;
}

unsigned roles_usable(const struct peer *p, void *keyd)
{
	return usable_under(((const struct keyd *)keyd)->policy, p);
}

bool roles_grow(const struct peer *p, const struct policy *was, const struct policy *will)
{
	if (p->roles & ROLE_OWNER)
		return false;
	return (usable_under(will, p) & ~usable_under(was, p)) ||
	       (forbidden(was, POLICY_CONSULTANT, p->roles) && !forbidden(will, POLICY_CONSULTANT, p->roles));
}

bool roles_may_consult(const struct keyd *k, const struct peer *p)
{
	return (p->roles & ROLE_OWNER) || !forbidden(k->policy, POLICY_CONSULTANT, p->roles);
}

int roles_uid_may_consult(const struct keyd *k, uid_t uid)
{
	struct peer p;
	int r = peer_from_uid(uid, k->owner, &p);

	return r < 0 ? r : roles_may_consult(k, &p);
}

void roles_tick(struct keyd *k)
{
	unsigned apart = forbidden(k->policy, POLICY_AUDITOR, ROLE_ADMIN | ROLE_CUSTODIAN);
	pid_t fsd = k->children.fsd.pid;

	if (!fsd_is_running(k) || (k->roles_told == fsd && k->apart_told == apart))
		return;
	if (fsd_call(k, "org.coffer.fsd.Roles",
		    json_pack("{s:b, s:b}", "admin", !(apart & ROLE_ADMIN), "custodian", !(apart & ROLE_CUSTODIAN)), NULL, NULL) < 0)
		return;
	k->roles_told = fsd;
	k->apart_told = apart;
}

bool has_role(const struct varlink_call *call, unsigned roles)
{
	return varlink_call_peer(call)->roles & roles;
}

bool may_see_names(struct keyd *k, const struct varlink_call *call, const char *hex)
{
	bool had = false;

	if (has_role(call, ROLE_AUDITOR))
		return true;
	return facts_had_session(k->facts, hex, varlink_call_peer(call)->uid, &had) == 0 && had;
}

int reply_failure(struct keyd *k, struct varlink_call *call, int r, const char *what)
{
	const char *remedy = "see log/keyd.log in the state directory";

	facts_rollback(k->facts);
	if (r == -ENOSPC)
		remedy = "the disk is full: make room, then try again";
	return varlink_errorf(call, "Failed", remedy, "%s: %s", what, strerror(-r));
}

int reply_rows(struct keyd *k, struct varlink_call *call, int r, const char *key, json_t *rows, const char *failure)
{
	return r < 0 ? reply_failure(k, call, r, failure) : varlink_reply(call, json_pack("{s:o}", key, rows));
}
