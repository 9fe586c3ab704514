/* Text that was cut at some byte. */
#ifndef COFFER_UTF8_H
#define COFFER_UTF8_H

/* Makes valid UTF-8 (RFC 3629) of what a limit in bytes has cut: an incomplete character at the end goes, other bytes that
 * are no UTF-8 become '?'.  JSON takes nothing else, and a message must not be lost for half a letter.  Returns text. */
char *utf8_mend(char *text);

#endif
