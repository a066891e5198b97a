#ifndef NIBBLE_H
#define NIBBLE_H
#endif
