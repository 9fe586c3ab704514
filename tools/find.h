/* Where the programs are: in the build tree beside this one, else where they were installed. */
#ifndef COFFER_FIND_H
#define COFFER_FIND_H

/* "keyd", "coffer-keyd" -> <dir of this program>/../keyd/coffer-keyd, else COFFER_LIBEXECDIR/coffer-keyd.
 * malloc'd; NULL when it is in neither place. */
char *find_program(const char *folder, const char *name);

#endif
