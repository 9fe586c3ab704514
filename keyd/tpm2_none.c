/* A build without tpm2-tss. */
#include <errno.h>

#include "keyd/tpm2.h"

int tpm2_read(const struct tpm2_place *place, unsigned plus, void *buf, size_t n)
{
	return -EOPNOTSUPP;
}

int tpm2_write(const struct tpm2_place *place, unsigned plus, const void *buf, size_t n)
{
	return -EOPNOTSUPP;
}

int tpm2_define(const struct tpm2_place *place, unsigned plus, size_t n)
{
	return -EOPNOTSUPP;
}

int tpm2_undefine(const struct tpm2_place *place, unsigned plus)
{
	return -EOPNOTSUPP;
}

bool tpm2_exists(const struct tpm2_place *place, unsigned plus)
{
	return false;
}
