/* Up to 4,096 records as one row of table `block`: each column by itself, as differences, then deflated.  Pure.
 * doc/format-ledger.md has the bytes.  The chain covers what the records say, not how they are packed. */
#ifndef COFFER_BROKER_PACK_H
#define COFFER_BROKER_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"

#define PACK_RECORDS_MAX 4096u
#define PACK_DETAIL_MAX 32u

/* A row of the table of records that doc/format-ledger.md describes; its id is its place. */
struct pack_record {
	int64_t time;			/* nanoseconds */
	int64_t session, path, path2, process;	/* ids of rows; 0: none (never of session) */
	int64_t size, bytes_read, bytes_written;
	struct file_id file;
	uint16_t outcome;
	uint8_t op, flags;
	bool has_file;
	uint8_t detail_len;		/* < PACK_DETAIL_MAX; 0: none */
	char detail[PACK_DETAIL_MAX];	/* not terminated */
};

/* 1 to PACK_RECORDS_MAX records; *ret is malloc'd.  -ENOMEM. */
int pack_encode(const struct pack_record *records, size_t n, uint8_t **ret, size_t *ret_n);
/* Not deflated: for an archive, which is packed as a whole. */
int pack_encode_plain(const struct pack_record *records, size_t n, uint8_t **ret, size_t *ret_n);
/* Into `records`, which has room for PACK_RECORDS_MAX.  -EUCLEAN: not what these make. */
int pack_decode(const uint8_t *data, size_t n, struct pack_record *records, size_t *ret_n);

#endif
