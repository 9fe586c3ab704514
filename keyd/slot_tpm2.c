/* A slot in a TPM: three NV indices in a row.
 *
 *	INDEX      record A: bytes 0..455 and the checksum of slot.c; the zeros between them are not kept
 *	INDEX+1    record B
 *	INDEX+2    the key, 32 bytes, if the slot is sealed by one of its own
 *
 * What is overwritten there is gone: the chip hands out nothing but what an index holds now. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/slot_medium.h"
#include "keyd/tpm2.h"

#define COMPACT_BYTES (SLOT_USED_BYTES + SLOT_SUM_BYTES)
#define KEY 2

/* A library of tpm2-tss loads whatever way it is told: any file as a library, any command.  Custodians name it, and we are root. */
static bool way_will_do(const char *tcti)
{
	static const char *const others[] = {"swtpm", "mssim", "tabrmd"};
	static const char device[] = "device:/dev/tpm";
	size_t n = strcspn(tcti, ":");

	if (strncmp(tcti, device, sizeof(device) - 1) == 0)
		return !tcti[sizeof(device) - 1 + strspn(tcti + sizeof(device) - 1, "rm0123456789")];
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strlen(others[i]) == n && strncmp(tcti, others[i], n) == 0)
			return true;
	return false;
}

int tpm2_place_parse(const char *text, struct tpm2_place *ret)
{
	const char *at = strchr(text, '@');
	struct tpm2_place p;
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 0);
	if (errno || end == text || (*end != '\0' && end != at) || n < TPM2_NV_FIRST || n > TPM2_NV_LAST)
		return -EINVAL;
	p.index = (uint32_t)n;
	if (at && (!way_will_do(at + 1) || strlen(at + 1) >= sizeof(p.tcti)))
		return -EINVAL;
	(void)snprintf(p.tcti, sizeof(p.tcti), "%s", at ? at + 1 : TPM2_DEFAULT_TCTI);
	*ret = p;
	return 0;
}

static int place_of(const struct slot_medium *m, struct tpm2_place *ret)
{
	return tpm2_place_parse(m->where, ret);
}

static int tpm_read(const struct slot_medium *m, unsigned half, uint8_t buf[SLOT_RECORD_BYTES])
{
	uint8_t compact[COMPACT_BYTES];
	struct tpm2_place p;
	int r = place_of(m, &p);

	if (r == 0)
		r = tpm2_read(&p, half, compact, sizeof(compact));
	if (r == -ENODATA) /* defined, and the power went before it was written: no record */
		memset(compact, 0, sizeof(compact));
	else if (r < 0)
		return r;
	memset(buf, 0, SLOT_RECORD_BYTES);
	memcpy(buf, compact, SLOT_USED_BYTES);
	memcpy(buf + SLOT_RECORD_BYTES - SLOT_SUM_BYTES, compact + SLOT_USED_BYTES, SLOT_SUM_BYTES);
	return 0;
}

static int tpm_write(const struct slot_medium *m, unsigned half, const uint8_t buf[SLOT_RECORD_BYTES])
{
	uint8_t compact[COMPACT_BYTES];
	struct tpm2_place p;
	int r = place_of(m, &p);

	memcpy(compact, buf, SLOT_USED_BYTES);
	memcpy(compact + SLOT_USED_BYTES, buf + SLOT_RECORD_BYTES - SLOT_SUM_BYTES, SLOT_SUM_BYTES);
	return r < 0 ? r : tpm2_write(&p, half, compact, sizeof(compact));
}

static int tpm_erase(const struct slot_medium *m)
{
	uint8_t noise[COMPACT_BYTES];
	struct tpm2_place p;
	int r = place_of(m, &p);

	for (unsigned i = 0; i <= KEY && r == 0; i++) {
		randombytes_buf(noise, sizeof(noise));
		r = tpm2_write(&p, i, noise, i == KEY ? KEY_BYTES : sizeof(noise));
		if (r == 0)
			r = tpm2_undefine(&p, i);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

/* What is there already is a slot, or somebody else's: neither is overwritten; but what was begun and has no record is. */
static int tpm_prepare(const struct slot_medium *m)
{
	uint8_t raw[SLOT_RECORD_BYTES], noise[COMPACT_BYTES];
	struct slot_record rec;
	struct tpm2_place p;
	int r = place_of(m, &p);

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		r = tpm_read(m, i, raw);
		if (r == 0)
			r = slot_record_parse(raw, &rec) == -ENODATA ? 0 : -EEXIST;
		else if (r == -ENOENT)
			r = tpm2_define(&p, i, COMPACT_BYTES);
		else if (r == -EBADMSG)
			r = -EEXIST; /* of another size */
		randombytes_buf(noise, sizeof(noise));
		if (r == 0)
			r = tpm2_write(&p, i, noise, sizeof(noise));
	}
	return r;
}

static int tpm_key_read(const struct slot_medium *m, struct key32 *ret, struct keys_error *err)
{
	struct tpm2_place p;
	int r = place_of(m, &p);

	if (r == 0)
		r = tpm2_read(&p, KEY, ret->b, KEY_BYTES);
	if (r < 0)
		keys_error_set(err, "%s cannot be read: %s", m->key_label, strerror(-r));
	return r == -ENOENT || r == -ENODATA ? -ENOKEY : r;
}

static int tpm_key_write(const struct slot_medium *m, const struct key32 *key)
{
	struct tpm2_place p;
	int r = place_of(m, &p);

	if (r == 0)
		r = tpm2_define(&p, KEY, KEY_BYTES);
	return r < 0 && r != -EEXIST ? r : tpm2_write(&p, KEY, key->b, KEY_BYTES);
}

static int tpm_key_destroy(const struct slot_medium *m)
{
	uint8_t noise[KEY_BYTES];
	struct tpm2_place p;
	int r = place_of(m, &p);

	randombytes_buf(noise, sizeof(noise));
	if (r == 0)
		r = tpm2_write(&p, KEY, noise, sizeof(noise));
	return r < 0 ? r : tpm2_undefine(&p, KEY);
}

static bool tpm_key_exists(const struct slot_medium *m)
{
	struct tpm2_place p;

	return place_of(m, &p) == 0 && tpm2_exists(&p, KEY);
}

static void tpm_device(const struct slot_medium *m, char ret[64])
{
	struct tpm2_place p;

	ret[0] = '\0';
	if (place_of(m, &p) == 0)
		(void)snprintf(ret, 64, "tpm %.59s", p.tcti);
}

static const struct slot_medium_ops slot_tpm2_ops = {
	.assurance = "the chip forgets what is overwritten: nobody can read it any more",
	.half = {"A", "B"},
	.prepare = tpm_prepare,
	.read = tpm_read,
	.write = tpm_write,
	.erase = tpm_erase,
	.key_read = tpm_key_read,
	.key_write = tpm_key_write,
	.key_destroy = tpm_key_destroy,
	.key_exists = tpm_key_exists,
	.device = tpm_device,
};

int slot_tpm2_check(const char *where, struct keys_error *err)
{
	struct tpm2_place p;

	if (strlen(where) < SLOT_WHERE_BYTES && tpm2_place_parse(where, &p) == 0)
		return 0;
	keys_error_set(err, "%s: a slot in a TPM is INDEX or INDEX@TCTI, with an NV index from 0x%08x to 0x%08x; 0x01800100 does",
		where, TPM2_NV_FIRST, TPM2_NV_LAST);
	return -EINVAL;
}

void slot_medium_init(struct slot_medium *m, int keyd_fd, enum slot_kind kind, const char *where)
{
	if (kind == SLOT_FILE) {
		slot_file_init(m, keyd_fd, where);
		return;
	}
	*m = (struct slot_medium){.ops = &slot_tpm2_ops, .keyd_fd = keyd_fd};
	(void)snprintf(m->where, sizeof(m->where), "%s", where);
	(void)snprintf(m->label, sizeof(m->label), "TPM %s", where);
	(void)snprintf(m->key_label, sizeof(m->key_label), "the key in the TPM %s", where);
}
