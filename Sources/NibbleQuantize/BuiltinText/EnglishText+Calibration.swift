extension BuiltinText {
  /// Prose of several registers: encyclopaedic, news, story, instructions, science, letters.
  static let calibrationEnglish = #"""
    A tidal mill takes its power from the sea twice a day. The builders of such a mill dam a \#
    small inlet and hang a gate in the dam; when the tide rises, the gate swings inward and the \#
    pond behind it fills, and when the tide turns, the weight of the held water closes the gate \#
    by itself. The miller then waits, often for two or three hours, until the level outside has \#
    dropped far enough, and opens a sluice that leads to the wheel. Because high water comes \#
    about fifty minutes later each day, the working hours of the mill wander around the clock, \#
    and the miller's family learns to sleep in two pieces. The arrangement needs no river and is \#
    never short of water, but it grinds for perhaps ten hours in twenty-four, and every storm \#
    brings silt into the pond that must be dug out by hand.

    Lichens look like single plants, yet each is a partnership. A fungus supplies the body: it \#
    anchors the whole to bark or stone, holds moisture and screens out the harshest light. Among \#
    its threads live green algae or, in some species, cyanobacteria, which make sugar from \#
    sunlight and let part of it leak to their host. Neither partner, grown alone in a dish, \#
    takes the shape of the lichen. Growth is slow. A grey rosette as wide as a hand on a \#
    churchyard wall may be older than anyone who can read the inscription beneath it, and \#
    surveyors have used the diameter of such rosettes to estimate when a glacier left a boulder \#
    bare.

    The city of Marrowgate published its accounts for the year on Tuesday, and the figure that \#
    drew most comment was a small one: the cost of mending pavements fell by eleven per cent, \#
    although the number of repairs rose. Officials put the change down to a survey in which \#
    postal workers, paid a little extra, noted loose slabs on their rounds. "They walk every \#
    street six days a week," said Ines Calloway, who directs the roads office. "We used to send \#
    a van to look for what they were already stepping over." Opposition members welcomed the \#
    saving but asked why a similar plan for street lamps had been dropped in March. A spokesman \#
    said that the lamps now report their own faults by radio, and that only four of some nine \#
    thousand had failed to do so.

    Rain had stopped an hour before, but the gutters still talked. Halvard set the lantern on \#
    the third step, where it would not be kicked, and listened to the house. Somewhere above him \#
    a board complained, then another, in the order that feet would have touched them had anyone \#
    been crossing the landing from the nursery to the window. He counted. Seven boards. There \#
    were nine between the door and the window, as he knew from the winter he had spent nailing \#
    them down, and so whoever it was had stopped with two still to go. He did not call out. He \#
    took the lantern up again, closed its shutter until it showed a line of light no wider than \#
    a straw, and began to climb on the outer edge of each tread, where the wood was quiet.

    His sister, when he told her about it in the morning, laughed until she had to put down her \#
    cup. "It was the cat," she said. "The cat weighs as much as a loaf of bread." "Then the cat \#
    has learned to open the linen press," said Halvard, and he laid on the table, between the \#
    butter and the jam, a folded paper that neither of them had seen before. She stopped \#
    laughing. The paper was dry, although the roof over the press had leaked all night.

    How to sharpen a kitchen knife on a whetstone. Soak the stone in water until no more bubbles \#
    rise, which takes about ten minutes. Lay it on a damp cloth so that it cannot slide. Hold \#
    the knife with the edge away from you and raise the back until two coins would fit beneath \#
    it: that is close to fifteen degrees, and it matters less which angle you choose than that \#
    you keep it. Push the blade along the stone as if you meant to shave off a thin layer, \#
    moving from heel to tip in one stroke. After ten strokes feel the other side, carefully and \#
    across the edge, never along it. When you notice a faint roughness over the whole length, a \#
    burr has formed; turn the knife and repeat. Finish with a few light strokes on alternate \#
    sides, rinse, dry, and test on a sheet of newspaper. If the blade catches, the burr is still \#
    there.

    To measure how quickly the beetles found the traps, we marked 240 adults with a dot of \#
    enamel paint and released them in groups of forty at six distances between five and eighty \#
    metres from the nearest bait. Traps were emptied at dawn and dusk for nine days. Of the \#
    marked animals, 163 were recovered, 118 of them within the first two nights. Recovery fell \#
    with distance, but not smoothly: between twenty and forty metres it hardly changed, while \#
    beyond forty it dropped by half. We suspect that the hedge which crosses the field at about \#
    that distance acts as a barrier, since beetles released beyond it were found along its foot \#
    rather than in the traps. A repeat with a gap cut into the hedge would settle the question. \#
    Temperature explained little of the remaining variation (slope 0.03 per degree, standard \#
    error 0.04), and humidity none that we could detect.

    Dear Mrs Okonjo, thank you for your letter of the ninth and for the seeds, which came \#
    through the post without a single one crushed. I have put half of them in the cold frame and \#
    kept the others back, as you advised, in case the frost returns. You ask about the wall. The \#
    mason came twice, and twice he explained that the stones on the north side were laid by \#
    somebody who owned no plumb line; he proposes to take down four metres and start again, and \#
    his price is fair, but he cannot begin until the swifts have left the holes under the \#
    coping. So we wait for the birds. I find that I do not mind. Please give my regards to your \#
    brother and tell him that the barometer he repaired has been right three days out of four, \#
    which is better than the radio manages. Yours sincerely, P. Lindqvist

    A contract is an agreement that a court will enforce. Three things are usually looked for: \#
    one side has made an offer, the other has accepted that same offer and not some variation of \#
    it, and each gives something in exchange. The exchange need not be equal, or even sensible; \#
    a house sold for the price of a bicycle is still sold. What the law asks is that the bargain \#
    was a bargain at all, that the parties meant it to bind them, and that neither was deceived \#
    or forced. Many agreements fail on the second point. A promise to come to dinner is kept or \#
    broken among friends, and no judge has ever been asked what the soup was worth.

    The simplest loom is two sticks and some string. One stick is tied to a tree, the other to a \#
    belt around the weaver's hips, and the warp runs back and forth between them; leaning back \#
    tightens it and leaning forward lets it go. Every second thread passes through a loop on a \#
    third stick, so that one pull lifts half of the warp at once and the shuttle can cross in a \#
    single throw. Everything that was added in the following five thousand years, the frame, the \#
    pedals, the flying shuttle, the punched cards, makes this quicker or wider or more exact, \#
    but does nothing that those sticks cannot do.

    Notes from the second rehearsal. The opening is too loud: nobody on stage can be heard until \#
    the clarinet drops out at bar thirty. Move the lamp half a metre to the left or the letter \#
    cannot be read from the balcony. Anton still enters before the bell, and when he waits for \#
    it he forgets his hat. The scene in the orchard finally works; keep the long silence, and do \#
    not let anybody cough. Costumes: the blue coat squeaks. Props: we own eleven glasses and the \#
    text breaks twelve. Next time we start with act three, while everyone is still awake.

    Markets opened lower on Thursday after the harbour authority confirmed that the grain \#
    terminal would stay shut for a third week. Barley for delivery in May gained four per cent, \#
    its steepest rise since the autumn, while shares in the two shipping lines that serve the \#
    port lost between two and six. Analysts were divided on how long the shortage could last. \#
    Stocks inland are said to cover nineteen days of normal demand, but millers have been \#
    ordering early, and what counts as normal is itself in dispute. The central bank, which \#
    meets on Monday, is not expected to respond. "You cannot print wheat," one trader remarked, \#
    closing his screen for the weekend a day ahead of everyone else.

    Why is the sky dark at night? The question sounds childish, but it has an edge. If the \#
    universe were endless, unchanging and filled everywhere with stars, then every line of sight \#
    would sooner or later end on the face of one, and the whole sky would shine like the surface \#
    of the sun. Dust does not help, for dust in such a furnace would heat up until it glowed as \#
    well. The darkness is therefore evidence. It says that light has not had time to reach us \#
    from far enough away, because the stars have a beginning, and that the light which did set \#
    out long ago has been stretched by the growth of space until our eyes no longer answer to \#
    it. One looks up, sees nothing between the stars, and has made a measurement.

    The bicycle was understood long after it was ridden. Early explanations leaned on the \#
    spinning wheels, which resist being tilted as a top does; but experimenters have built \#
    bicycles with a second pair of wheels turning backwards, so that the effect cancels, and \#
    these stay upright just as well. Others pointed to the trail, the small distance by which \#
    the front tyre touches the ground behind the steering axis, and that too has been removed \#
    without harm. It now seems that no single feature is necessary. What every stable design \#
    shares is that it steers into a fall: when the frame leans to the left, something turns the \#
    front wheel to the left, and the path curves back beneath the rider. A child learns to do \#
    this with the arms in an afternoon and cannot say a word about it afterwards.

    From the log of the weather hut. Monday: fog until ten, then clear, wind from the west, \#
    nothing to report except a fox. Tuesday: snow, 14 cm by noon; the anemometer froze at 22 m/s \#
    and I beat it free with a ladle. Wednesday: snow. The radio heard me but I did not hear the \#
    radio. Thursday: thaw, avalanche on the east face at 15:20, small, far from the path. Baked \#
    bread with the last of the good flour. Friday: relief expected at noon, arrived at four, \#
    with mail, batteries, and a new ladle.

    "I don't understand this clause," she said, and turned the page round so that he could read \#
    it. "It means that if either of you dies, the other keeps the boat." "And if we both drown?" \#
    The notary took off his glasses. "In that case," he said, "I imagine there will not be much \#
    of a boat." She signed. Her brother signed below her, larger, as he had signed everything \#
    since school, and then they went out to look at what they owned: nine metres of tar and good \#
    intentions, leaking gently at the end of the quay.

    Yeast, flour, water, salt: four things, and yet two bakers who start with the same four will \#
    not end with the same loaf. Some of the difference is skill. Much of it is local. The warmth \#
    of the room decides how quickly the dough ferments, the minerals in the water decide how \#
    firmly the gluten holds, and the air and the baker's own hands bring in a company of \#
    microbes that settles in the starter within weeks and is as particular to the place as an \#
    accent. Bakers who move house carry a jar of starter with them. A month later the jar has \#
    changed its mind, and the bread tastes of the new kitchen.

    """#
}
