/// All loops, formats and rounding first since others call them; for a file of sets/ that has set the instructions they are compiled for.
#include "formats.h"
#include "quantize.h"
#include "block.h"
#include "cache.h"
#include "dot.h"
#include "feedback.h"
#include "limits.h"
#include "panels.h"
#include "statistics.h"

#define LOOP_FIELD(result, name, parameters, arguments) .name = name,
