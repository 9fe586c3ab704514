/* Resources that free themselves at the end of their scope.
 *
 *	scoped(close_fdp) int fd = -1;
 *	...
 *	*ret_fd = take_fd(&fd);		(hand over: the scope forgets it)
 */
#ifndef COFFER_SCOPE_H
#define COFFER_SCOPE_H

#include <stdlib.h>
#include <unistd.h>

#define scoped(fn) __attribute__((cleanup(fn)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* scoped(freep) char *s = NULL; */
static inline void freep(void *pp)
{
	free(*(void **)pp);
}

/* Closes *fd unless it is negative; errno is kept. */
void close_fdp(int *fd);

static inline int take_fd(int *fd)
{
	int t = *fd;

	*fd = -1;
	return t;
}

#define take_ptr(pp)                                                                                       \
	({                                                                                                 \
		__typeof__(*(pp)) taken_ = *(pp);                                                          \
		*(pp) = NULL;                                                                              \
		taken_;                                                                                    \
	})

/* Defines fn##p(T **) for scoped(fn##p) from a free function that takes T *. */
#define DEFINE_SCOPED(type, fn)                                                                            \
	static inline void fn##p(type *pp)                                                                 \
	{                                                                                                  \
		if (*pp)                                                                                   \
			fn(*pp);                                                                           \
	}

#endif
