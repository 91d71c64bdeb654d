"""Words that the questions are made of. Common, short, each of one meaning here; none is a number or a yes."""

NAMES: tuple[str, ...] = (
    "Ada", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ida", "Jan", "Kim", "Lou", "Mia", "Ned", "Olga", "Pia",
    "Quin", "Rosa", "Sam", "Tess", "Uma", "Vic", "Wim", "Zoe",
)  # fmt: skip
THINGS: tuple[str, ...] = (
    "apple", "basket", "bell", "boat", "bottle", "bridge", "brush", "button", "candle", "chair", "clock", "coat",
    "crown", "cup", "desk", "door", "drum", "feather", "flag", "flute", "fork", "garden", "glove", "hammer", "harp",
    "hat", "horn", "island", "jar", "kettle", "key", "kite", "ladder", "lamp", "lantern", "leaf", "letter", "map",
    "mirror", "needle", "orange", "oven", "paper", "pearl", "pencil", "pillow", "plate", "ribbon", "ring", "river",
    "rope", "saddle", "shell", "shovel", "spoon", "stone", "table", "tent", "tower", "train", "violin", "wagon",
    "wheel", "window",
)  # fmt: skip
PLACES: tuple[str, ...] = (
    "attic", "barn", "box", "cave", "cellar", "chest", "drawer", "hall", "kitchen", "office", "shed", "yard",
)  # fmt: skip
KINDS: tuple[str, ...] = (
    "blick", "dax", "fep", "gorp", "kiv", "lorn", "mipe", "nolt", "prax", "quell", "rilk", "sarn", "toma", "vesk",
    "wug", "zerp",
)  # fmt: skip
MONTHS: tuple[str, ...] = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WEEKDAYS: tuple[str, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
