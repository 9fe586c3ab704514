/* A process that goes on behind the command, to take away what the command made. */
#ifndef COFFER_BACKGROUND_H
#define COFFER_BACKGROUND_H

/* In the child: leaves the terminal, the folder and all descriptors but fd, and returns when nobody holds fd's other end any
 * more.  Ends the process when it cannot. */
void background_wait(int fd);

#endif
