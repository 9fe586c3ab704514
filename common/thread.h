/* Threads of a daemon: signals are the main thread's. */
#ifndef COFFER_THREAD_H
#define COFFER_THREAD_H

#include <pthread.h>

/* As pthread_create(3), with all signals blocked.  0, or a negative errno. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *arg);

#endif
