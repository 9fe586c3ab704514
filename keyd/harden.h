/* What the process gives up before it serves anybody. */
#ifndef COFFER_KEYD_HARDEN_H
#define COFFER_KEYD_HARDEN_H

/* Raises the limits that workers will need (descriptors; locked memory, where we may). */
void harden_raise_limits(void);

/* Root: keeps CAP_DAC_OVERRIDE, CAP_CHOWN and CAP_FOWNER, which the workers inherit (and
 * CAP_IPC_LOCK where the limit of locked memory cannot be lifted), and drops the rest for good.
 * Others: drops all they might have. */
int harden_drop_capabilities(void);

#endif
