/* Reads configurations as xl does, by libxlutil, for a test that compares. Standard input has any number of them, each
   behind a line with its length. For each it prints one line: "refused", or for each key of the arguments its value. */
#include <libxlutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hex(const char *text)
{
    putchar('<');
    for (; *text; text++)
        printf("%02x", (unsigned char)*text);
    putchar('>');
}

static void show(XLU_Config *config, const char *key)
{
    const char *text;
    XLU_ConfigList *list;
    long number;
    int count;

    if (!xlu_cfg_get_string(config, key, &text, 1)) {
        hex(text);
        if (!xlu_cfg_get_long(config, key, &number, 1))
            printf("%ld", number);
    } else if (!xlu_cfg_get_list(config, key, &list, &count, 1)) {
        putchar('[');
        for (int n = 0; n < count; n++) {
            const char *item = xlu_cfg_get_listitem(list, n);
            if (item)
                hex(item);
            else
                printf("[]");
        }
        putchar(']');
    }
    putchar(' ');
}

int main(int argc, char **argv)
{
    int length;
    FILE *nowhere = fopen("/dev/null", "w");

    while (scanf("%d", &length) == 1 && getchar() == '\n') {
        char *text = malloc(length + 1);
        XLU_Config *config = xlu_cfg_init(nowhere, "config");
        if (!text || !config || fread(text, 1, length, stdin) != (size_t)length)
            return 1;
        if (xlu_cfg_readdata(config, text, length)) {
            printf("refused");
        } else {
            for (int n = 1; n < argc; n++)
                show(config, argv[n]);
        }
        putchar('\n');
        xlu_cfg_destroy(config);
        free(text);
    }
    return 0;
}
