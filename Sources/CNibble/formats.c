#include "nibble.h"
