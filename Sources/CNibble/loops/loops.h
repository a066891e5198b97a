/// All loops; formats and rounding come first since the others call them. Included by each file of
/// sets/ after it has set the target instructions.
#include "formats.h"
#include "quantize.h"
#include "block.h"
#include "cache_groups.h"
#include "cache.h"
#include "dot.h"
#include "feedback.h"
#include "limits.h"
#include "minifloat.h"
#include "panels.h"
#include "statistics.h"

#define LOOP_FIELD(result, name, parameters, arguments) .name = name,
