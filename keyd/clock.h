/* May the wall clock be believed?  A pure state machine, fed about once a second; nothing is destroyed while it
 * is unconfirmed, until a custodian says that the time is right (clock_confirm).
 *
 * Doubt arises when
 *   - the wall clock moved against the clock since boot by more than 5 s: at once, or in sum within an hour;
 *   - the monotonic clock itself made a step that no second makes (a clock that is being played with: libfaketime);
 *   - keyd starts and it is earlier than when it last looked, or more than 48 hours later (an outage looks the
 *     same as a clock set forward), or, within one boot, not what the clock since boot says;
 *   - keyd starts and the record has a row of later: asked before anything is given notice of or destroyed. */
#ifndef COFFER_KEYD_CLOCK_H
#define COFFER_KEYD_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_STEP_MAX 5		/* seconds; NTP slews far below, and steps only when it was wrong */
#define CLOCK_TICK_MAX 300		/* between two ticks that should be a second apart */
#define CLOCK_OUTAGE_MAX (48 * 3600)
#define CLOCK_BASE_SECONDS 3600		/* how long small steps are summed up */
#define CLOCK_BOOT_ID 40

struct clock_reading {
	int64_t wall, mono, boot;	/* seconds: CLOCK_REALTIME, _MONOTONIC, _BOOTTIME */
	char boot_id[CLOCK_BOOT_ID];
};

struct clock_memory {			/* what is kept over a restart; wall 0: first start ever */
	int64_t wall, boot;
	char boot_id[CLOCK_BOOT_ID];
	bool unconfirmed;
	char reason[192];
};

struct clock {
	struct clock_reading last;
	int64_t base, base_since;	/* wall - boot, and the boot time when it was taken */
	bool unconfirmed;
	char reason[192];
};

void clock_start(struct clock *c, const struct clock_memory *m, const struct clock_reading *now);
/* True when this reading brought the clock into doubt. */
bool clock_tick(struct clock *c, const struct clock_reading *now);
/* `newest`: time of the newest row of the record, 0: none.  A clock that is earlier was set back, also
 * when the memory was put back with it.  `confirmed`: up to which a custodian said so already. */
void clock_compare_ledger(struct clock *c, int64_t newest, int64_t confirmed, int64_t now);
void clock_confirm(struct clock *c, const struct clock_reading *now);
void clock_remember(const struct clock *c, struct clock_memory *ret);

/* The one place where keyd reads clocks. */
void clock_read(struct clock_reading *ret);

#endif
