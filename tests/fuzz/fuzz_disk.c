/* Whatever stands on disk: headers, sectors, places, directory ids, names, versions, labels.  Nothing but what was sealed opens. */
#include "tests/fuzz/fuzz.h"

#include <sodium.h>

#include "common/subject.h"
#include "fs/store/header.h"
#include "fs/store/name.h"
#include "fs/store/place.h"
#include "fs/store/sector.h"
#include "fs/store/version.h"

static struct key32 key;

/* A sealed header with the input laid over it: the header as it was, or none. */
static void try_header(struct fuzz_input *in)
{
	struct header h = {.suite = 1, .leaf = {16, 2517, 7}, .rec = {.generation = 4, .floor = 9000}}, got;
	uint8_t raw[HEADER_BYTES];
	struct key32 content = key, opened;
	size_t at = fuzz_u64(in) % HEADER_BYTES, n = in->left < HEADER_BYTES - at ? in->left : HEADER_BYTES - at;

	header_seal(&h, &key, &content, raw);
	for (size_t k = 0; k < n; k++)
		raw[at + k] ^= in->p[k];
	header_peek(raw, &got);
	if (header_open(raw, &key, &got, &opened) == 0) {
		fuzz_check(memcmp(&opened, &content, sizeof(content)) == 0);
		fuzz_check(got.rec.generation == 4 && got.rec.floor == 9000 && got.suite == 1);
	}
	n = in->left < HEADER_BYTES ? in->left : HEADER_BYTES;
	memset(raw, 0, sizeof(raw));
	memcpy(raw, in->p, n);
	header_peek(raw, &got);
	fuzz_check(header_open(raw, &key, &got, &opened) < 0);
}

static void try_sector(struct fuzz_input *in)
{
	struct cipher_file f = {.suite = fuzz_byte(in) % 2 + 1, .key = &key};
	uint8_t raw[SECTOR_BYTES] = {0}, plain[SECTOR_DATA];
	size_t n, take = in->left < sizeof(raw) ? in->left : sizeof(raw);

	memcpy(raw, in->p, take);
	sector_is_hole(raw);
	fuzz_check(sector_open(&f, fuzz_byte(in), raw, plain, &n) < 0);
	for (size_t k = 0; k < sizeof(plain); k++)
		fuzz_check(plain[k] == 0);
}

static void try_text(const char *text, size_t n)
{
	char name[NAME_MAX_BYTES + 1], side[NAME_MAX_BYTES + 1];
	struct place_mac mac;
	struct version v;
	struct dir_id id;

	if (place_dir_decode(text, n, &id, &mac) == 0) {
		char again[PLACE_DIR_TEXT];

		place_dir_encode(&id, &mac, again);
		fuzz_check(n == strlen(again) && memcmp(again, text, n) == 0); /* one text for one id */
	}
	version_parse(text, &v);
	if (n > NAME_MAX_BYTES)
		return;
	fuzz_check(name_open(&key, text, NULL, name) < 0);
	fuzz_check(name_open(&key, text, text, name) < 0);
	if (name_is_long(text) && n >= 1)
		name_side(text, side);
}

static void try_name(const char *text)
{
	char name[NAME_MAX_BYTES + 1];
	struct name_entry e;

	if (name_seal(&key, text, &e) < 0)
		return;
	fuzz_check(name_open(&key, e.entry, e.side[0] ? e.text : NULL, name) == 0);
	fuzz_check(strcmp(name, text) == 0);
}

static void try_place(struct fuzz_input *in)
{
	uint8_t again[PLACE_BYTES];
	struct place p;

	if (place_decode(in->p, in->left, &p) < 0)
		return;
	place_encode(&p, again);
	fuzz_check(in->left == PLACE_BYTES && memcmp(again, in->p, PLACE_BYTES) == 0);
}

static void try_subjects(const struct fuzz_input *in)
{
	uint8_t again[SUBJECTS_STORED_MAX];
	struct subjects *s;
	size_t at = 0, n;
	const char *id;

	if (subjects_decode(in->p, in->left, &s) < 0)
		return;
	fuzz_check(subjects_encode(s, again) == in->left && memcmp(again, in->p, in->left) == 0);
	while (subjects_next(s, &at, &id, &n))
		fuzz_check(subject_id_ok(id, n));
	subjects_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct fuzz_input in = {data, n};
	char *text;

	fuzz_check(sodium_init() >= 0);
	memset(&key, 7, sizeof(key));
	switch (fuzz_byte(&in) % 5) {
	case 0:
		try_header(&in);
		break;
	case 1:
		try_sector(&in);
		break;
	case 2:
		try_subjects(&in);
		try_place(&in);
		break;
	default:
		text = strndup((const char *)in.p, in.left);
		fuzz_check(text);
		if (n && data[0] % 5 == 3)
			try_text(text, strlen(text));
		else
			try_name(text);
		free(text);
	}
	return 0;
}
