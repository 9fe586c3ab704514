/* Dates as people write them and as Coffer stores them: seconds since 1970 UTC; days as in ids.h.
 * One rule everywhere: a date without a time is its first second, UTC. */
#ifndef COFFER_DATE_H
#define COFFER_DATE_H

#include <stdint.h>

/* "2026-12-31", "2026-12-31T18:30[:05][Z]", "2026-12-31 18:30[:05]", "now", "today", "yesterday", "tomorrow".
 * -EINVAL: none of these, or no such day.  `now` resolves the words. */
int date_parse(const char *text, int64_t now, int64_t *ret);
#define DATE_TEXT_MAX 32
char *date_format(int64_t t, char buf[DATE_TEXT_MAX]);	/* "2026-12-31T18:30:05Z"; returns buf */
char *date_format_day(int64_t t, char buf[DATE_TEXT_MAX]);	/* "2026-12-31" */
uint16_t date_day(int64_t t);		/* clamped to 0..65535 */
uint16_t date_month_day(int64_t t);	/* day of the month's first */
/* Adds calendar years, months, days; a day the target month lacks becomes its last (31 Jan + 1m = 28 or 29 Feb). */
int64_t date_add(int64_t t, int years, int months, int days);

#endif
