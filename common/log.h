/* One line on stderr (to the journal when it is one), escaped: what came from outside cannot
 * forge a line or a terminal sequence.  Knows no secrets: never pass one. */
#ifndef COFFER_LOG_H
#define COFFER_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(const char *program);	/* level from COFFER_LOG (error|warning|info|debug), default info */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define LOG_LIMIT_LINES 30u /* a minute */

/* For lines that anybody can cause as often as he likes: they must not fill the disk.  Begins as zeros. */
struct log_limit {
	uint64_t since; /* monotonic seconds + 1; 0: nothing yet */
	unsigned written, left_out;
};
/* Whether the next such line is written.  The first one of a later minute is preceded by how many were left out. */
bool log_limit_allows(struct log_limit *l);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_warning_limited(limit, ...) (log_limit_allows(limit) ? log_warning(__VA_ARGS__) : (void)0)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
