#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "common/date.h"
#include "policy/policy.h"

#define PERIOD_YEARS_MAX 200 /* longer than any law asks for; keeps dates within four digits */

static bool takes(const char **text, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(*text, word, n) != 0 || ((*text)[n] != '\0' && (*text)[n] != ' '))
		return false;
	*text += n - 1; /* the last letter is the caller's */
	return true;
}

static int *unit_of(struct period *p, const char **text, bool times, int *ret_max, int *ret_times)
{
	*ret_times = 1;
	if (times && takes(text, "min")) {
		*ret_max = 24 * 60;
		*ret_times = 60;
		return &p->seconds;
	}
	switch (**text) {
	case 's':
		*ret_max = 24 * 3600;
		return times ? &p->seconds : NULL;
	case 'h':
		*ret_max = 24 * 366;
		*ret_times = 3600;
		return times ? &p->seconds : NULL;
	case 'y':
		*ret_max = PERIOD_YEARS_MAX;
		return &p->years;
	case 'm':
		*ret_max = PERIOD_YEARS_MAX * 12;
		return &p->months;
	case 'd':
		*ret_max = PERIOD_YEARS_MAX * 366;
		return &p->days;
	default:
		return NULL;
	}
}

/* Each unit once, hours before minutes before seconds. */
static bool in_order(const struct period *p, const int *unit, int each)
{
	return unit != &p->seconds || each == 3600 ? *unit == 0 : *unit % (60 * each) == 0;
}

/* A period of nothing is a mistake, not a wish. */
static int parse(const char *text, bool times, struct period *ret)
{
	struct period p = {0};
	bool first = true;

	while (*text || first) {
		int n = 0, max, each, *unit;

		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		for (; isdigit((unsigned char)*text); text++) {
			if (n > PERIOD_YEARS_MAX * 366)
				return -EINVAL;
			n = n * 10 + (*text - '0');
		}
		unit = unit_of(&p, &text, times, &max, &each);
		if (!unit || !in_order(&p, unit, each) || n == 0 || n > max)
			return -EINVAL;
		*unit += n * each;
		text++;
		first = false;
		if (*text == ' ')
			text++;
		else if (*text)
			return -EINVAL;
		else
			break;
		if (*text == '\0')
			return -EINVAL; /* a space at the end */
	}
	*ret = p;
	return 0;
}

int policy_period_parse(const char *text, struct period *ret)
{
	return parse(text, false, ret);
}

int policy_length_parse(const char *text, struct period *ret)
{
	return parse(text, true, ret);
}

bool policy_period_is_zero(const struct period *p)
{
	return !p->years && !p->months && !p->days && !p->seconds;
}

int64_t policy_period_add(int64_t t, const struct period *p)
{
	return date_add(t, p->years, p->months, p->days) + p->seconds;
}
