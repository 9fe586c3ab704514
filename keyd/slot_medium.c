#include "keyd/slot_medium.h"

#include <errno.h>
#include <stdio.h>

static int none_prepare(const struct slot_medium *m)
{
	return -EOPNOTSUPP;
}

static int none_read(const struct slot_medium *m, unsigned half, uint8_t buf[SLOT_RECORD_BYTES])
{
	return -EOPNOTSUPP;
}

static int none_write(const struct slot_medium *m, unsigned half, const uint8_t buf[SLOT_RECORD_BYTES])
{
	return -EOPNOTSUPP;
}

static int none_key_read(const struct slot_medium *m, struct key32 *ret, struct keys_error *err)
{
	return -EOPNOTSUPP;
}

static int none_key_write(const struct slot_medium *m, const struct key32 *key)
{
	return -EOPNOTSUPP;
}

static bool none_key_exists(const struct slot_medium *m)
{
	return false;
}

static void none_device(const struct slot_medium *m, char ret[64])
{
	ret[0] = '\0';
}

static const struct slot_medium_ops none_ops = {
	.assurance = "none: this build of Coffer has no part for it",
	.half = {"A", "B"},
	.prepare = none_prepare,
	.read = none_read,
	.write = none_write,
	.erase = none_prepare,
	.key_read = none_key_read,
	.key_write = none_key_write,
	.key_destroy = none_prepare,
	.key_exists = none_key_exists,
	.device = none_device,
};

void slot_medium_init(struct slot_medium *m, int keyd_fd, enum slot_kind kind, const char *where)
{
	if (kind == SLOT_FILE) {
		slot_file_init(m, keyd_fd, where);
		return;
	}
	*m = (struct slot_medium){.ops = &none_ops, .keyd_fd = keyd_fd};
	(void)snprintf(m->where, sizeof(m->where), "%s", where);
	(void)snprintf(m->label, sizeof(m->label), "%s %s", slot_kind_name(kind), where);
	(void)snprintf(m->key_label, sizeof(m->key_label), "the key of %s %s", slot_kind_name(kind), where);
}
