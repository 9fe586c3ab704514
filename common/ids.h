/* The identifiers that all processes share, each a type of its own. */
#ifndef COFFER_IDS_H
#define COFFER_IDS_H

#include <stdint.h>

#define CLIENT_ID_BYTES 16	/* random; in hex the name of the client's folder in the store */
#define CLIENT_ID_HEX (2 * CLIENT_ID_BYTES + 1)
#define FILE_ID_BYTES 16	/* random; in the file's header and in its records */
#define KEY_BYTES 32

struct client_id {
	uint8_t b[CLIENT_ID_BYTES];
};

struct file_id {
	uint8_t b[FILE_ID_BYTES];
};

/* Where in the key tree a leaf stands.  As a 64-bit number, most significant first:
 * record class (16), day of creation (16), number (32). */
struct leaf_index {
	uint16_t class;
	uint16_t day;		/* days since 2020-01-01 UTC */
	uint32_t number;	/* counts from a random one, drawn and booked each time the tree is loaded */
};

enum { /* reserved record classes; those of the policy start at CLASS_FIRST_POLICY */
	CLASS_NAMES = 0,	/* directories: their name keys */
	CLASS_AUDIT = 1,	/* paths in the ledger: number 0, day = first day of the month */
	CLASS_HOLDS = 2,	/* what a hold saved from the destruction of its class: that class's day, another number */
	CLASS_FIRST_POLICY = 16,
};

static inline uint64_t leaf_index_u64(struct leaf_index i)
{
	return (uint64_t)i.class << 48 | (uint64_t)i.day << 32 | i.number;
}

static inline struct leaf_index leaf_index_from_u64(uint64_t v)
{
	return (struct leaf_index){ .class = (uint16_t)(v >> 48), .day = (uint16_t)(v >> 32), .number = (uint32_t)v };
}

#define DAY_EPOCH_UNIX 1577836800	/* 2020-01-01T00:00:00Z */

/* The exit status of coffer-fsd when its ledger cannot be continued: to start it again does not help. */
#define FSD_EXIT_DAMAGED 8

#endif
