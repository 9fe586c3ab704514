#include "tools/background.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

void background_wait(int fd)
{
	char byte;
	ssize_t n;
	int null;

	setsid(); /* what is typed, and the end of the terminal, are for the others */
	if (chdir("/") < 0 || dup2(fd, STDIN_FILENO) < 0)
		_exit(1);
	syscall(SYS_close_range, 1u, ~0u, 0u);
	null = open("/dev/null", O_RDWR);
	if (null != STDOUT_FILENO || dup2(null, STDERR_FILENO) < 0)
		_exit(1);
	do
		n = read(STDIN_FILENO, &byte, 1);
	while (n > 0 || (n < 0 && errno == EINTR));
}
