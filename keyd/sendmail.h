/* Hands a notice to the program that the policy names. */
#ifndef COFFER_KEYD_SENDMAIL_H
#define COFFER_KEYD_SENDMAIL_H

struct keyd;

/* D/outbox/<name> becomes the program's input; it runs beside the loop as `PROGRAM -oi -t`.  What fails, now or
 * later, is logged and recorded: the letter stays where it is. */
void notice_send(struct keyd *k, const char *name, const char *client);

#endif
