/* The standard descriptors that were closed when the program started. */
#include <fcntl.h>

int closedfd_was(int fd);

static int closed[3];

__attribute__((constructor)) static void look(void)
{
    int fd;

    for (fd = 0; fd < 3; fd++)
        closed[fd] = fcntl(fd, F_GETFD) < 0;
}

int closedfd_was(int fd) { return fd >= 0 && fd < 3 && closed[fd]; }
