#include "common/date.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "common/ids.h"
#include "common/scope.h"

#define DAY_SECONDS 86400
#define YEAR_FIRST 1
#define YEAR_LAST 9999 /* four digits: what people write and what is printed */

static int64_t floor_day(int64_t t)
{
	int64_t rest = t % DAY_SECONDS;

	return t - rest - (rest < 0 ? DAY_SECONDS : 0);
}

/* `text` has exactly the shape: 'd' a digit, 'T' a T or a space, else itself. */
static bool has_shape(const char *text, const char *shape)
{
	for (; *shape; text++, shape++) {
		if (*shape == 'd'       ? !isdigit((unsigned char)*text)
			: *shape == 'T' ? *text != 'T' && *text != ' '
					: *text != *shape)
			return false;
	}
	return *text == '\0';
}

static int digits(const char *p, int n)
{
	int v = 0;

	while (n-- > 0)
		v = v * 10 + (*p++ - '0');
	return v;
}

static int days_in_month(int64_t year, int mon0)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[mon0] + (mon0 == 1 && leap ? 1 : 0);
}

static int parse_digits(const char *text, bool minutes, bool seconds, int64_t *ret)
{
	struct tm tm = {0};
	int year = digits(text, 4), mon = digits(text + 5, 2), day = digits(text + 8, 2);

	if (year < YEAR_FIRST || mon < 1 || mon > 12 || day < 1 || day > days_in_month(year, mon - 1))
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = mon - 1;
	tm.tm_mday = day;
	tm.tm_hour = minutes ? digits(text + 11, 2) : 0;
	tm.tm_min = minutes ? digits(text + 14, 2) : 0;
	tm.tm_sec = seconds ? digits(text + 17, 2) : 0;
	if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return -EINVAL;
	*ret = timegm(&tm);
	return 0;
}

int date_parse(const char *text, int64_t now, int64_t *ret)
{
	static const struct {
		const char *shape;
		bool minutes, seconds;
	} shapes[] = {
		{"dddd-dd-dd", false, false},
		{"dddd-dd-ddTdd:dd", true, false},
		{"dddd-dd-ddTdd:ddZ", true, false},
		{"dddd-dd-ddTdd:dd:dd", true, true},
		{"dddd-dd-ddTdd:dd:ddZ", true, true},
	};
	static const struct {
		const char *word;
		int days;
	} words[] = {{"today", 0}, {"yesterday", -1}, {"tomorrow", 1}};

	if (strcmp(text, "now") == 0) {
		*ret = now;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i].word) == 0) {
			*ret = floor_day(now) + words[i].days * DAY_SECONDS;
			return 0;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		if (has_shape(text, shapes[i].shape))
			return parse_digits(text, shapes[i].minutes, shapes[i].seconds, ret);
	}
	return -EINVAL;
}

char *date_format(int64_t t, char buf[DATE_TEXT_MAX])
{
	time_t tt = (time_t)t;
	struct tm tm;

	/* strftime cuts nothing: what does not fit gives 0, and the contents are then undefined. */
	if (!gmtime_r(&tt, &tm) || strftime(buf, DATE_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		memcpy(buf, "?", 2);
	return buf;
}

char *date_format_day(int64_t t, char buf[DATE_TEXT_MAX])
{
	time_t tt = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&tt, &tm) || strftime(buf, DATE_TEXT_MAX, "%Y-%m-%d", &tm) == 0)
		memcpy(buf, "?", 2);
	return buf;
}

uint16_t date_day(int64_t t)
{
	int64_t day;

	if (t < DAY_EPOCH_UNIX)
		return 0;
	day = (t - DAY_EPOCH_UNIX) / DAY_SECONDS;
	return day > UINT16_MAX ? UINT16_MAX : (uint16_t)day;
}

uint16_t date_month_day(int64_t t)
{
	time_t tt = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&tt, &tm))
		return t < 0 ? 0 : UINT16_MAX;
	tm.tm_mday = 1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	return date_day(timegm(&tm));
}

int64_t date_add(int64_t t, int years, int months, int days)
{
	time_t tt = (time_t)t;
	struct tm tm;
	int64_t month, year;

	if (!gmtime_r(&tt, &tm))
		return t;
	month = ((int64_t)tm.tm_year + 1900 + years) * 12 + tm.tm_mon + months;
	/* Beyond what can be written the first or last month stands for all of it. */
	if (month < YEAR_FIRST * 12)
		month = YEAR_FIRST * 12;
	if (month > YEAR_LAST * 12 + 11)
		month = YEAR_LAST * 12 + 11;
	year = month / 12;
	tm.tm_year = (int)year - 1900;
	tm.tm_mon = (int)(month % 12);
	if (tm.tm_mday > days_in_month(year, tm.tm_mon))
		tm.tm_mday = days_in_month(year, tm.tm_mon);
	return timegm(&tm) + (int64_t)days * DAY_SECONDS;
}
