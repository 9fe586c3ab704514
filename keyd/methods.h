/* The methods of org.coffer.keyd: one table, one handler each; helpers that handlers share.  Roles and states are
 * checked by the dispatcher before a handler runs. */
#ifndef COFFER_KEYD_METHODS_H
#define COFFER_KEYD_METHODS_H

#include "common/varlink.h"
#include "keyd/keyd.h"

#define ROLES_ALL (ROLE_USER | ROLE_ADMIN | ROLE_CUSTODIAN | ROLE_AUDITOR | ROLE_OWNER)
#define ROLES_OVERSIGHT (ROLE_ADMIN | ROLE_CUSTODIAN | ROLE_AUDITOR)

extern const struct varlink_method keyd_methods[];

typedef int (*method_handler)(struct varlink_call *call, json_t *params, void *userdata);

/* ---- what handlers share: each replies with an error that names the thing, and then returns false ---- */
bool params_unpack(struct varlink_call *call, json_t *params, const char *fmt, ...);
bool params_text(struct varlink_call *call, const char *what, const char *text);	/* NULL passes */
/* A time as a number or as text (common/date.h); missing or null: *ret stays. */
bool params_time(struct varlink_call *call, json_t *params, const char *key, int64_t *ret);
bool params_client(struct keyd *k, struct varlink_call *call, const char *client, struct fact_client *ret);
/* Whether a client may be called so: the name stands in mount options, file names and tables. */
bool client_name_is_good(const char *name);
bool params_rights(struct varlink_call *call, const char *text, enum rights *ret);	/* NULL: RIGHTS_NONE */
bool params_purpose(struct keyd *k, struct varlink_call *call, const char *id, const struct policy_purpose **ret);

struct actor actor_of(const struct varlink_call *call);
/* A peer's roles that may be used together here: what the policy says (together); the owner of the directory has all. */
unsigned roles_usable(const struct peer *p, void *keyd);
/* Whether another policy would let him use roles together, or open clients beside one, that he must not now. */
bool roles_grow(const struct peer *p, const struct policy *was, const struct policy *will);
/* Whether who has that peer's roles may also open clients. */
bool roles_may_consult(const struct keyd *k, const struct peer *p);
/* The same of whoever has that uid now.  Negative: he cannot be looked up. */
int roles_uid_may_consult(const struct keyd *k, uid_t uid);
/* Once a second: coffer-fsd, which knows no policy, is told beside which roles nobody is an auditor. */
void roles_tick(struct keyd *k);
bool has_role(const struct varlink_call *call, unsigned roles);
/* Names in a client's share (its id in hex) are for auditors, and for who has had a session with it: the rule of LedgerNames. */
bool may_see_names(struct keyd *k, const struct varlink_call *call, const char *hex);
/* For what the database or the disk refused; ends any open transaction. */
int reply_failure(struct keyd *k, struct varlink_call *call, int r, const char *what);
/* The rows (it takes them) whose reading went with r, as the member `key`; or reply_failure. */
int reply_rows(struct keyd *k, struct varlink_call *call, int r, const char *key, json_t *rows, const char *failure);

/* ---- methods_query.c ---- */
/* Rows of Shares. */
int shares_of(struct keyd *k, const struct peer *p, json_t **ret);
int keyd_status(struct varlink_call *call, json_t *params, void *userdata);
int keyd_client_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_access(struct varlink_call *call, json_t *params, void *userdata);
int keyd_shares(struct varlink_call *call, json_t *params, void *userdata);
int keyd_why(struct varlink_call *call, json_t *params, void *userdata);
int keyd_sessions(struct varlink_call *call, json_t *params, void *userdata);
int keyd_hold_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_retention_forecast(struct varlink_call *call, json_t *params, void *userdata);
int keyd_certificate(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_admin.c ---- */
int keyd_client_add(struct varlink_call *call, json_t *params, void *userdata);
int keyd_client_end(struct varlink_call *call, json_t *params, void *userdata);
int keyd_suspend(struct varlink_call *call, json_t *params, void *userdata);
int keyd_resume(struct varlink_call *call, json_t *params, void *userdata);
int keyd_shutdown_method(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_grant.c ---- */
int keyd_grant(struct varlink_call *call, json_t *params, void *userdata);
int keyd_grant_import(struct varlink_call *call, json_t *params, void *userdata);
int keyd_revoke(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_policy.c ---- */
int keyd_policy_apply(struct varlink_call *call, json_t *params, void *userdata);
int keyd_policy_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_policy_text(struct varlink_call *call, json_t *params, void *userdata);
int keyd_policy_diff(struct varlink_call *call, json_t *params, void *userdata);
int keyd_agreement_diff(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_expiry.c ---- */
int keyd_expiry_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_expiry_cancel(struct varlink_call *call, json_t *params, void *userdata);
int keyd_expiry_schedule(struct varlink_call *call, json_t *params, void *userdata);
int keyd_expiry_confirm(struct varlink_call *call, json_t *params, void *userdata);
int keyd_expiry_run(struct varlink_call *call, json_t *params, void *userdata);
int keyd_event_set(struct varlink_call *call, json_t *params, void *userdata);
int keyd_event_list(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_mount.c ---- */
int keyd_mount(struct varlink_call *call, json_t *params, void *userdata);
int keyd_session_end(struct varlink_call *call, json_t *params, void *userdata);

/* ---- methods_keys.c ---- */
int keyd_clock_confirm(struct varlink_call *call, json_t *params, void *userdata);
int keyd_seal_method(struct varlink_call *call, json_t *params, void *userdata);
int keyd_unseal_method(struct varlink_call *call, json_t *params, void *userdata);
/* A passphrase that came in the call's descriptor: 1; none came: 0; else replied and negative.  *ret is from the arena. */
int take_passphrase(struct varlink_call *call, char **ret, size_t *ret_n);
int keyd_ledger_names(struct varlink_call *call, json_t *params, void *userdata);
int keyd_receipt(struct varlink_call *call, json_t *params, void *userdata);
int keyd_ledger_head(struct varlink_call *call, json_t *params, void *userdata);

#endif
