/* A page of HTML, written so that nothing from outside can become markup: whatever is no literal of ours is escaped, in texts
 * and in values of attributes alike.  Characters that are not seen, or change the order of others (controls, bidirectional
 * overrides, zero width), are written as what they are: [U+202E].  Bytes that are no UTF-8 become '?'. */
#ifndef COFFER_TOOLS_HTML_H
#define COFFER_TOOLS_HTML_H

#include <stdio.h>

/* Markup of ours: only a literal compiles. */
#define html_literal(f, literal) fputs("" literal "", f)

void html_text(FILE *f, const char *text);
void html_printf(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* <tag name="value" ...>: pairs, ended by NULL; a value NULL leaves its attribute out.  Tags and names are literals of ours. */
void html_open(FILE *f, const char *tag, ...) __attribute__((sentinel));
void html_close(FILE *f, const char *tag);
/* One element with one class (or NULL) and a text. */
void html_element(FILE *f, const char *tag, const char *class, const char *text);

#endif
