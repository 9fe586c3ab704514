/* The default policy: policy/inemsoft.yaml as it was when the program was built. */
#ifndef COFFER_BUILTIN_H
#define COFFER_BUILTIN_H

#include <stddef.h>

const char *policy_builtin_text(size_t *ret_n);	/* not ended by NUL */

#endif
