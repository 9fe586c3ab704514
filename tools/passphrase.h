/* Passphrases on their way to coffer-keyd: from a terminal or a descriptor into a memory file, never through
 * arguments, environment or JSON. */
#ifndef COFFER_PASSPHRASE_H
#define COFFER_PASSPHRASE_H

#include <stdbool.h>

#define PASSPHRASE_BYTES_MAX 1024

/* A memory file with the passphrase, from which keyd reads to the end: of the first line of `fd` if >= 0,
 * else asked on the terminal without echo (twice if `confirm`).  An exit code; what went wrong is printed. */
int passphrase_ask(int fd, const char *prompt, bool confirm, int *ret_fd);

#endif
