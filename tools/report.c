#include "tools/report.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/date.h"

const char *report_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

int64_t report_number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

int64_t report_seconds(const json_t *o, const char *key)
{
	int64_t t = 0;

	return date_parse(report_text(o, key), 0, &t) < 0 ? 0 : t;
}

char *report_day_of(int64_t t, char buf[REPORT_DAY_MAX])
{
	struct tm tm;
	time_t time = t;

	if (!gmtime_r(&time, &tm) || strftime(buf, REPORT_DAY_MAX, "%-d %b %Y", &tm) == 0)
		*buf = 0;
	return buf;
}

char *report_day(const json_t *o, const char *key, char buf[REPORT_DAY_MAX])
{
	int64_t t = report_seconds(o, key);

	*buf = 0;
	return t ? report_day_of(t, buf) : buf;
}

char *report_when(const json_t *o, const char *key, char buf[REPORT_WHEN_MAX])
{
	int64_t t = report_seconds(o, key);
	char day[REPORT_DAY_MAX];

	*buf = 0;
	if (t)
		snprintf(buf, REPORT_WHEN_MAX, "%s, %02d:%02d UTC", report_day_of(t, day), (int)(t / 3600 % 24), (int)(t / 60 % 60));
	return buf;
}

char *report_count(int64_t n, char buf[REPORT_NUMBER_MAX])
{
	char digits[REPORT_NUMBER_MAX];
	int len = snprintf(digits, sizeof(digits), "%" PRId64, n), at = 0;

	for (int i = 0; i < len && at < REPORT_NUMBER_MAX - 2; i++) {
		if (i > 0 && digits[i - 1] != '-' && (len - i) % 3 == 0)
			buf[at++] = ',';
		buf[at++] = digits[i];
	}
	buf[at] = 0;
	return buf;
}
